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
local kind, given, full = limit.kind, 0, false
local units, units_part, since = number(), number(), number()

if kind == 'b' then
  local floor = held({ micros = now, part = 0, ends = limit.ends, life = limit.life })
  local back = units - math.max(0, now - since)
  if (back > 0 or (back == 0 and units_part > 0)) and later(limit.micros, limit.part, floor, 0) then
    local micros, part = limit.micros - back, limit.part - units_part
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
  local moment = string.format('%d', since)
  for _, spent in ipairs(redis.call('ZREVRANGEBYSCORE', limit.key, moment, moment, 'LIMIT', 0, units)) do
    redis.call('ZREM', limit.key, spent)
    given = 1
  end
  return given
elseif since == limit.ends then
  limit.count, given = math.max(limit.count - units, 0), 1
  full = limit.count + limit.before == 0
elseif kind == 's' and since + limit.window == limit.ends then
  limit.before, given = math.max(limit.before - units, 0), 1
  full = limit.count + limit.before == 0
end

if full then
  redis.call('DEL', limit.key)
elseif given == 1 or limit.changed then
  keep(limit)
end
return given
