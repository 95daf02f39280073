-- KEYS[1]: the index of a tag. Lets go of what ended at ARGV[1] or before, at most ARGV[2] of it; returns how many.
-- One command would be blocked by all that has ended; two could take out what a fill has put in again between them.
local ended = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
if #ended > 0 then
  redis.call('ZREM', KEYS[1], unpack(ended))
end
return #ended
