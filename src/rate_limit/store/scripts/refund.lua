-- Takes back what one limit was charged for a request that another limit, in another slot, refused: less what time has
-- given back since (rate_limit/algorithm/gcra.rs, rule 8).
--
-- KEYS  one
-- ARGV  now in µs since the Unix epoch, or '' for this server's clock; the interval that was charged (µs, part); the state
--       it was added to (µs); quota (= parts in a µs)

local stored = redis.call('GET', KEYS[1])
local micros, part = string.match(stored or '', '^(%d+):(%d+)$')
if not micros then
  return 0
end

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local back, back_part, parts = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
back = back - math.max(0, now - tonumber(ARGV[4]))
if back < 0 or (back == 0 and back_part == 0) then
  return 0
end

micros, part = tonumber(micros) - back, math.min(tonumber(part), parts - 1) - back_part
if part < 0 then
  micros, part = micros - 1, part + parts
end
if micros < now or (micros == now and part == 0) then
  return redis.call('DEL', KEYS[1])
end
local life = math.ceil((micros + 1 - now) / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f:%.0f', micros, part), 'PX', string.format('%.0f', life))
return 1
