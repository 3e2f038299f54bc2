-- What wrk itself can do: it sends what reads as an answer, and an echo sends it back.
--
--   boxoffice-bench ceiling --serve 127.0.0.1:7481 --no-log --duration 12 &
--   wrk -t1 -c64 -d10s -s bench/wrk/echo.lua http://127.0.0.1:7481 -- 300 16
--
-- The numbers: bytes of each answer, and how many go out in one write. Without `--no-log` each
-- answer is durable before it comes back.

function init(arguments)
  local size, depth = tonumber(arguments[1] or 300), tonumber(arguments[2] or 1)
  local head = "HTTP/1.1 200 OK\r\nContent-Length: %04d\r\n\r\n"
  local length = size - #head:format(0)
  bytes = (head:format(length) .. ("x"):rep(length)):rep(depth)
  -- Before the run wrk looks at one write, for how many requests there are in it.
  first = wrk.format("GET", "/"):rep(depth)
end

function request()
  local now = first or bytes
  first = nil
  return now
end
