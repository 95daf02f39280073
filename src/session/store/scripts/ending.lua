-- A record is to end after so long. KEYS[1]: the record. ARGV: milliseconds, and '1' if it is not to end sooner than it would.
-- One that is not there, or has no end, is left alone. Returns 1 if it ends so now, else 0.
local left = redis.call('PTTL', KEYS[1])
if left < 0 or (ARGV[2] == '1' and left >= tonumber(ARGV[1])) then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
