-- Stores a part, unless what is whole stands in its place.
-- KEYS[1]: the entry. ARGV[1]: the hard token of the part's generation; ARGV[2]: the part; ARGV[3]: how long it lives, in ms.
-- Says OK, or nothing.
local stands = redis.pcall('GETRANGE', KEYS[1], 12, 28)
-- The byte behind the seal tells what it is: 0, a list of variants; 1, a whole response; and then comes its generation.
if type(stands) == 'string' and #stands == 17 and string.byte(stands) < 2 and string.sub(stands, 2) == ARGV[1] then
    return false
end
return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
