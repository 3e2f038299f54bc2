-- Purchases over HTTP, each by a buyer of its own, one request at a time on a connection.
--
--   wrk -t1 -c256 -d10s -s bench/wrk/buy.lua http://127.0.0.1:7480
--
-- Each request has its own account and Idempotency-Key. wrk tells of answers that are no success
-- by itself; a callback for each answer would measure wrk.

-- Two runs on one server must not repeat each other's request ids.
local run = tostring(os.time())
-- All of one length, so that each request is a few texts put together.
local asked = 1000000000
local body = '{"account":"%s","action":"buy","lines":[{"item":1,"quantity":1}]}'
local before, behind = body:format(run .. "-%s"):match("(.*)%%s(.*)")
local head = "POST /v1/sales/1/orders HTTP/1.1\r\nHost: boxoffice\r\n"
  .. "Content-Type: application/json\r\nContent-Length: "
  .. #before + #tostring(asked) + #behind .. "\r\nIdempotency-Key: " .. run .. "-"

before = "\r\n\r\n" .. before

function request()
  asked = asked + 1
  return head .. asked .. before .. asked .. behind
end
