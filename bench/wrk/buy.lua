-- Purchases over HTTP, each by a buyer of its own, one request at a time on a connection.
--
--   wrk -t1 -c256 -d10s -s bench/wrk/buy.lua http://127.0.0.1:7480
--
-- Each request has its own account and Idempotency-Key. wrk tells of answers that are no success
-- by itself; a callback for each answer would measure wrk.

local head = "POST /v1/sales/1/orders HTTP/1.1\r\nHost: boxoffice\r\n"
  .. "Content-Type: application/json\r\n"

-- Two runs on one server must not repeat each other's request ids.
local run = tostring(os.time())
local asked = 0

function request()
  asked = asked + 1
  local body = string.format(
    '{"account":"%s-%d","action":"buy","lines":[{"item":1,"quantity":1}]}', run, asked)
  return string.format("%sIdempotency-Key: %s-%d\r\nContent-Length: %d\r\n\r\n%s",
    head, run, asked, #body, body)
end
