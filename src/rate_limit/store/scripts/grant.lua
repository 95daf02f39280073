-- Forgets units that a key has spent, whenever that was: the newest first (rate_limit/algorithm/mod.rs, rule 4).
--
-- ARGV  besides: units (b: µs, part); s: µs of a tick, ticks
-- Answers 1 if anything was forgotten.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local limit = known(KEYS[1])
local kind, given = limit.kind, false
local units, units_part = number(), number()

if kind == 'b' then
  given = lessen(limit, units, units_part)
elseif kind == 'l' then
  if units == 0 then
    return 0
  end
  return redis.call('ZREMRANGEBYRANK', limit.key, -math.min(units, limit.most), -1) > 0 and 1 or 0
elseif units > 0 then
  local rest = math.max(units - limit.count, 0)
  limit.count, given = math.max(limit.count - units, 0), true
  if kind == 's' and rest > 0 then
    local tick, ticks = number(), number()
    local left = math.min(math.ceil((limit.ends - now) / tick), ticks)
    local counts = math.max(math.ceil(limit.before * left / ticks) - rest, 0)
    limit.before = math.min(limit.before, math.floor(counts * ticks / left))
  end
end
return lessened(limit, given)
