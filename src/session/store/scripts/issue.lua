-- Writes the record of a new session as a hash, with its end, in one step: a hash without an end would stay for good.
-- KEYS[1]: the record. ARGV: milliseconds, then names and values. Returns 1.
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
