-- Holds of what is sold out over HTTP, sixteen in one write on each connection.
--
--   wrk -t1 -c64 -d10s -s bench/wrk/refused.lua http://127.0.0.1:7480
--
-- Of item 2 there is nothing. A refusal stores nothing, so the same bytes may be sent again and
-- again; wrk counts each of the sixteen answers.

local DEPTH = 16

function init()
  local body = '{"account":"late","action":"hold","lines":[{"item":2,"quantity":2}]}'
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = "late" }
  bytes = string.rep(wrk.format("POST", "/v1/sales/1/orders", headers, body), DEPTH)
end

function request()
  return bytes
end
