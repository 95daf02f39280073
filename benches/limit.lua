-- What nginx does to count in Redis, written as for production: a pool of kept connections, the script by its digest,
-- sent whole only if Redis does not know it yet; one trip a request. Clients are told what sidegate tells them.

local redis = require "nginx.redis" -- lua-resty-redis, as Debian calls it

local AMOUNT, WINDOW, BURST = 6000000, 60, 6000000
local SECOND = 1000000

-- The generic cell rate algorithm, by the clock of Redis: in µs, which is exact for this quota.
local GCRA = [[
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local arrival = tonumber(redis.call('GET', KEYS[1]) or 0)
if arrival < now then
  arrival = now
end
local after, allowed = arrival + interval, 0
if after <= now + tolerance then
  arrival, allowed = after, 1
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', string.format('%.0f', (arrival - now) / 1000 + 1000))
end
return { allowed, now, arrival }
]]

local SHA = ngx.sha1_bin(GCRA):gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
local INTERVAL = WINDOW * SECOND / AMOUNT
local TOLERANCE = BURST * INTERVAL

local limit = {}

local function key()
  return "limit:{address:" .. ngx.var.remote_addr .. "}"
end

-- Asks a connection to Redis, or adds the question to its pipeline.
function limit.ask(connection)
  return connection:evalsha(SHA, 1, key(), INTERVAL, TOLERANCE)
end

-- The same for a Redis that does not know the script yet.
function limit.ask_whole(connection)
  return connection:eval(GCRA, 1, key(), INTERVAL, TOLERANCE)
end

-- Tells the client what Redis decided, and ends the request if that was to refuse it.
function limit.tell(answer)
  local allowed, now, arrival = answer[1] == 1, answer[2], answer[3]
  local remaining = math.floor((now + TOLERANCE - arrival) / INTERVAL)
  local seconds = math.ceil((arrival - now) / SECOND)
  local fields = ngx.header
  fields["X-RateLimit-Limit"] = AMOUNT
  fields["X-RateLimit-Remaining"] = remaining
  fields["X-RateLimit-Reset"] = math.ceil(arrival / SECOND)
  fields["RateLimit-Policy"] = '"per-address";q=6000000;w=60'
  fields["RateLimit"] = '"per-address";r=' .. remaining .. ";t=" .. seconds
  if not allowed then
    fields["Retry-After"] = math.max(1, math.ceil((arrival + INTERVAL - TOLERANCE - now) / SECOND))
    return ngx.exit(429)
  end
end

-- Lets the request pass, or ends it; `port` is that of Redis. Redis away: it passes.
function limit.check(port)
  local connection = redis:new()
  connection:set_timeout(1000)
  local connected, fault = connection:connect("127.0.0.1", port)
  if not connected then
    ngx.log(ngx.ERR, "no connection to Redis: ", fault)
    return
  end
  local answer
  answer, fault = limit.ask(connection)
  if not answer and fault and fault:find("NOSCRIPT", 1, true) then
    answer, fault = limit.ask_whole(connection)
  end
  if not answer then
    connection:close()
    ngx.log(ngx.ERR, "Redis does not decide: ", fault)
    return
  end
  connection:set_keepalive(60000, 256)
  return limit.tell(answer)
end

return limit
