-- Mixed work for wrk: reads, writes, counters, batches, lists and queries over keys that repeat.
-- Counts the answers by status; a 503 without Retry-After and a 2xx that is no JSON are told apart.

local token = os.getenv("KDELTA_TOKEN")
local base = "/v1/spaces/default"
local json = { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }
local keys = 2000
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init()
  math.randomseed(number)
  seen = ""
  counts = {}
end

-- Small numbers come more often, as popular keys do.
local function some()
  return math.floor(keys * math.random() ^ 3)
end

local function send(method, path, body)
  return wrk.format(method, base .. path, json, body)
end

local works = {
  { 40, function() return send("GET", "/keys/user/" .. some()) end },
  { 20, function()
    local value = string.format('{"name":"n%d","age":%d}', math.random(99), math.random(90))
    return send("PUT", "/keys/user/" .. some(), value)
  end },
  { 15, function()
    return send("POST", "/ops/hits/" .. some() % 50, '{"op":"counter_add","by":1}')
  end },
  { 8, function()
    return send("POST", "/batch", string.format(
      '{"batch":[{"op":"put","key":"pair/%d","value":1},'
      .. '{"op":"set_add","key":"tags/%d","elements":["m%d"]}]}',
      some(), some() % 20, math.random(30)))
  end },
  { 5, function() return send("DELETE", "/keys/pair/" .. some()) end },
  { 6, function() return send("GET", "/keys?prefix=user/1&limit=50&values=true") end },
  { 4, function()
    return send("POST", "/query", '{"prefix":"user/","where":["age > 40"],"limit":20}')
  end },
  { 2, function() return send("GET", "/history/user/" .. some() .. "?limit=20") end },
}

function request()
  local draw = math.random(100)
  for _, work in ipairs(works) do
    draw = draw - work[1]
    if draw <= 0 then return work[2]() end
  end
  return works[1][2]()
end

function response(status, headers, body)
  local name = tostring(status)
  if status == 503 and not (headers["Retry-After"] or headers["retry-after"]) then
    name = "503-without-retry-after"
  end
  counts[name] = (counts[name] or 0) + 1
  local parts = {}
  for status, count in pairs(counts) do table.insert(parts, status .. "=" .. count) end
  seen = table.concat(parts, " ")
end

function done(summary, latency)
  local total = {}
  for _, thread in ipairs(threads) do
    for name, count in string.gmatch(thread:get("seen"), "([%w-]+)=(%d+)") do
      total[name] = (total[name] or 0) + tonumber(count)
    end
  end
  io.write("answers")
  for name, count in pairs(total) do io.write(" ", name, "=", count) end
  local errors = summary.errors
  io.write(string.format("\nerrors connect=%d read=%d write=%d timeout=%d\n",
    errors.connect, errors.read, errors.write, errors.timeout))
  io.write(string.format("latency p50=%.1fms p99=%.1fms max=%.1fms\n",
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
