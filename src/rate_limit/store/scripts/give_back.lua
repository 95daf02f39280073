-- Gives back what was taken of one limit and not spent (rate_limit/algorithm/gcra.rs, rule 8).
--
-- ARGV  besides: units (b: µs, part), since when (b, l: µs; f, s: the end of the window that holds it)
-- Answers 1 if anything was given back.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local limit = known(KEYS[1])
-- Another policy's: it knows nothing of what is given back.
if limit.beyond then
  return 0
end
local kind, given = limit.kind, false
local units, units_part, since = number(), number(), number()

if kind == 'b' then
  given = lessen(limit, units - math.max(0, now - since), units_part)
elseif kind == 'l' then
  local moment = string.format('%d', since)
  for _, spent in ipairs(redis.call('ZREVRANGEBYSCORE', limit.key, moment, moment, 'LIMIT', 0, units)) do
    redis.call('ZREM', limit.key, spent)
    given = true
  end
  return given and 1 or 0
elseif since == limit.ends then
  limit.count, given = math.max(limit.count - units, 0), true
elseif kind == 's' and since + limit.window == limit.ends then
  limit.before, given = math.max(limit.before - units, 0), true
end
return lessened(limit, given)
