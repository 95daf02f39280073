-- Puts a list of variants in the place of the one that it was made of.
-- KEYS[1]: the list. ARGV[1]: how the one before begins (its seal), '' if there was none; ARGV[2]: the new one; ARGV[3]: how
-- long it lives at least, in ms; ARGV[4], of a part: the hard token of its generation.
-- Says 1; 0 where a whole response stands that the list may not replace; or, if another stands there, that one, '' for none.
local before = redis.pcall('GET', KEYS[1])
-- A part takes the place of no whole response.
if ARGV[4] and type(before) == 'string' and string.byte(before, 13) == 1 and string.sub(before, 14, 29) == ARGV[4] then
    return 0
end
-- The byte behind the seal tells what it is; what is no list of ours counts as none.
if type(before) ~= 'string' or string.byte(before, 13) ~= 0 then before = '' end
if string.sub(before, 1, 12) ~= ARGV[1] then return before end
local life = math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[1]))
redis.call('SET', KEYS[1], ARGV[2], 'PX', life)
return 1
