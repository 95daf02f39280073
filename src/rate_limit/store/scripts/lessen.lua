-- Takes units (µs and part) off a bucket, but not below what it says by itself; whether anything was there to take.
local function lessen(limit, units, part)
  local floor = held({ micros = now, part = 0, ends = limit.ends, life = limit.life })
  if units < 0 or (units == 0 and part == 0) or not later(limit.micros, limit.part, floor, 0) then
    return false
  end
  local micros, rest = limit.micros - units, limit.part - part
  if rest < 0 then
    micros, rest = micros - 1, rest + limit.parts
  end
  if later(floor, 0, micros, rest) then
    micros, rest = floor, 0
  end
  limit.micros, limit.part = micros, rest
  return true
end

-- Keeps what is left once something was taken off, if it says anything. Answers 1 if so, else 0.
local function lessened(limit, given)
  local full
  if limit.kind == 'b' then
    full = limit.micros == now and limit.part == 0
  else
    full = limit.count + limit.before == 0
  end
  if given and full then
    redis.call('DEL', limit.key)
  elseif given or limit.changed then
    keep(limit)
  end
  return given and 1 or 0
end
