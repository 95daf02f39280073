-- A session was seen. KEYS[1]: what is known of it. ARGV: now and time to live (milliseconds), user, session, record, address,
-- agent. When it was first seen stays; nothing is shortened.
local key, now, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', key) == 0 then
    redis.call('HSET', key, 'first', now)
end
redis.call('HSET', key, 'user', ARGV[3], 'session', ARGV[4], 'record', ARGV[5],
    'last', now, 'address', ARGV[6], 'agent', ARGV[7])
if redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
end
return 1
