-- Forgets units that a key has spent, whenever that was: the newest first (rate_limit/algorithm/mod.rs, rule 4).
--
-- ARGV  besides: units (b: µs, part); s: µs of a tick, ticks
-- Answers 1 if anything was forgotten.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local limit = known(KEYS[1])
local kind, given, full = limit.kind, 0, false
local units, units_part = number(), number()

if kind == 'b' then
  local floor = held({ micros = now, part = 0, ends = limit.ends, life = limit.life })
  if (units > 0 or units_part > 0) and later(limit.micros, limit.part, floor, 0) then
    local micros, part = limit.micros - units, limit.part - units_part
    if part < 0 then
      micros, part = micros - 1, part + limit.parts
    end
    if later(floor, 0, micros, part) then
      micros, part = floor, 0
    end
    limit.micros, limit.part, given = micros, part, 1
    full = micros == now and part == 0
  end
elseif kind == 'l' then
  if units > 0 and redis.call('ZREMRANGEBYRANK', limit.key, -math.min(units, limit.most), -1) > 0 then
    given = 1
  end
  return given
elseif units > 0 then
  local rest = math.max(units - limit.count, 0)
  limit.count, given = math.max(limit.count - units, 0), 1
  if kind == 's' and rest > 0 then
    local tick, ticks = number(), number()
    local left = math.min(math.ceil((limit.ends - now) / tick), ticks)
    local counts = math.max(math.ceil(limit.before * left / ticks) - rest, 0)
    limit.before = math.min(limit.before, math.floor(counts * ticks / left))
  end
  full = limit.count + limit.before == 0
end

if full then
  redis.call('DEL', limit.key)
elseif given == 1 or limit.changed then
  keep(limit)
end
return given
