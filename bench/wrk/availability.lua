-- Reads of a sale's counters over HTTP.
--
--   wrk -t1 -c64 -d10s -s bench/wrk/availability.lua http://127.0.0.1:7480

function init()
  bytes = wrk.format("GET", "/v1/sales/1/availability")
end

function request()
  return bytes
end
