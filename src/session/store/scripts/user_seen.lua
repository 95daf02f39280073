-- A session of a user was seen. KEYS[1]: the user's sessions, by when they were last seen. ARGV: now and time to live
-- (milliseconds), the session's handle, how many are known at most. Nothing is shortened.
local key, now, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', key, now, ARGV[3])
redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[4]))
if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
end
return 1
