-- Holds that stock does not allow over HTTP, sixteen in one write on each connection.
--
--   wrk -t1 -c64 -d10s -s bench/wrk/refused.lua http://127.0.0.1:7480
--
-- The sale is that of buy.lua: item 2 has one unit, and two are asked for. A refusal stores
-- nothing, so the same bytes may be sent again and again; wrk counts each of the sixteen answers.

local DEPTH = 16

function init()
  local body = '{"account":"late","action":"hold","lines":[{"item":2,"quantity":2}]}'
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = "late" }
  bytes = string.rep(wrk.format("POST", "/v1/sales/1/orders", headers, body), DEPTH)
end

function request()
  return bytes
end
