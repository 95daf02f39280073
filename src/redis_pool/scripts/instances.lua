-- One instance tells of itself; all that did lately are counted.
--
-- KEYS  the set of instances: who, and when it told last (ms, by this server's clock)
-- ARGV  who; how long its word holds (ms)
-- Answers {how many there are, 1 if nothing was known of this one}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - life))
-- What nobody can have said yet: this server's clock was set back, or somebody else wrote it.
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + life), '+inf')
local new = redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], life)
return { redis.call('ZCARD', KEYS[1]), new }
