-- Says that a request is still in flight: its places last longer, and are taken again where they have been forgotten, whether
-- there is room or not. It is there all the same.
--
-- KEYS  one for each limit, as in flight.lua
-- ARGV  now in ms since the Unix epoch, or '' for this server's clock; who; then for each limit how long a place lasts (ms)
-- Answers how many of its places had been forgotten.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local forgotten = 0
for i, key in ipairs(KEYS) do
  local life = tonumber(ARGV[i + 2])
  forgotten = forgotten + redis.call('ZADD', key, string.format('%.0f', now + life), ARGV[2])
  if redis.call('PTTL', key) < life then
    redis.call('PEXPIRE', key, string.format('%.0f', 2 * life))
  end
end
return forgotten
