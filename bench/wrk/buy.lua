-- Purchases over HTTP, each by a buyer of its own, one request at a time on a connection.
--
--   wrk -t1 -c256 -d10s -s bench/wrk/buy.lua http://127.0.0.1:7480
--
-- Each request has its own account and Idempotency-Key: a run that answers anything but 201 says
-- how often.

local head = "POST /v1/sales/1/orders HTTP/1.1\r\nHost: boxoffice\r\n"
  .. "Content-Type: application/json\r\n"

-- Two runs on one server must not repeat each other's request ids.
local run = tostring(os.time())
local asked = 0
others = 0

function request()
  asked = asked + 1
  local body = string.format(
    '{"account":"%s-%d","action":"buy","lines":[{"item":1,"quantity":1}]}', run, asked)
  return string.format("%sIdempotency-Key: %s-%d\r\nContent-Length: %d\r\n\r\n%s",
    head, run, asked, #body, body)
end

function response(status)
  if status ~= 201 then others = others + 1 end
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function done()
  local sum = 0
  for _, thread in ipairs(threads) do sum = sum + thread:get("others") end
  print(string.format("answers other than 201: %d", sum))
end
