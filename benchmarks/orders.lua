-- What wrk sends: real orders, 256 different ones in turn; or, with a file of paths (`wrk ... URL -- FILE`), GETs of random
-- ones of them. HEADERS in the environment are sent with each order, a line each; a key that is % is
-- another one each time. At the end it prints one line for loads.py: requests, microseconds, refused, socket errors, p50 and p99 in
-- microseconds.

local requests = {}
local sent = 0
local reading = false
local run = nil -- what the keys of this run begin with

local function order(n)
  local lines = {}
  for line = 1, 1 + n % 4 do
    lines[line] = string.format(
      '{"sku":"SKU-%04d","quantity":%d,"unit_price":"%d.%02d"}',
      (n * 7 + line) % 10000, 1 + (n + line) % 5, 1 + n % 90, n * 13 % 100
    )
  end
  return string.format(
    '{"customer":{"email":"customer-%d@example.com","name":"Customer %d"},"currency":"EUR","lines":[%s],' ..
    '"shipping_address":{"line1":"%d Main Street","city":"Dublin","postal_code":"D01 F5P2","country":"IE"}}',
    n, n, table.concat(lines, ","), n
  )
end

function init(args)
  if args[1] then
    for path in io.lines(args[1]) do
      requests[#requests + 1] = wrk.format("GET", path)
    end
    reading = true
  else
    local headers = { ["Content-Type"] = "application/json" }
    for name, value in (os.getenv("HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
      headers[name] = value
    end
    if headers["Idempotency-Key"] == "%" then
      run = string.format("%d-%p-", os.time(), {})
    end
    for n = 1, 256 do
      requests[n] = wrk.format("POST", "/orders", headers, order(n))
    end
  end
end

function request()
  if run then
    sent = sent + 1
    return (requests[sent % #requests + 1]:gsub("Idempotency%-Key: %%", "Idempotency-Key: " .. run .. sent, 1))
  end
  sent = reading and math.random(#requests) or sent % #requests + 1
  return requests[sent]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %d %d %d %d\n",
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
