-- Settles one request under several limits of any algorithm in one step (rate_limit/algorithm/mod.rs, rule 2).
--
-- ARGV  of each limit besides: 1 if its refusal binds; 1 if it is charged although it or another refuses;
--         b  need, what is taken, lease (µs, part each), tolerance (µs, part), delay (µs); floor: how far ahead of now (µs, part)
--         f  need, what is taken, lease, quota; floor: end of its window (µs), units
--         s  need, what is taken, quota, µs of a tick, ticks; floor: end of its window (µs), units, units in the one before
--         l  need, what is taken
--       The floor is what was counted elsewhere at least.
-- Answers {1 if the request passes, now, and for each limit the state it was judged by}
--         b  state (µs, part), end of the last lease or 0;  f  end of the window, units;  s  the same, units in the one before
--         l  units, when the newest was spent; of a refused one, when that was spent which must go, and the same if charged

local answer, limits, passes = { 1, now }, {}, true

for i = 1, #KEYS do
  local limit = known(KEYS[i])
  local kind = limit.kind
  limit.binds, limit.even, limit.fits = number() == 1, number() == 1, true
  limits[i] = limit
  local n = #answer
  if kind == 'b' then
    local need, need_part = number(), number()
    limit.take, limit.take_part, limit.lease, limit.lease_part = number(), number(), number(), number()
    limit.latest, limit.latest_part = plus(limit, now, 0, number(), number())
    local last, last_part = plus(limit, limit.latest, limit.latest_part, number(), 0)
    local floor, floor_part = now + number(), math.min(number(), limit.parts - 1)
    if later(floor, floor_part, limit.furthest, limit.furthest_part) then
      floor, floor_part = limit.furthest, limit.furthest_part
    end
    if later(floor, floor_part, limit.micros, limit.part) then
      limit.micros, limit.part, limit.changed = floor, floor_part, true
    end
    answer[n + 1], answer[n + 2], answer[n + 3] = limit.micros, limit.part, limit.ends
    limit.held, limit.held_part = held(limit)
    limit.after, limit.after_part = plus(limit, limit.held, limit.held_part, need, need_part)
    limit.fits = not later(limit.after, limit.after_part, last, last_part)
  elseif kind == 'l' then
    local need = number()
    limit.take = number()
    limit.fits = limit.used + need <= limit.most
    answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = limit.used, limit.newest, 0, 0
    if not limit.fits and need <= limit.most then
      local room = limit.most - need
      answer[n + 3], answer[n + 4] = spent_at(limit.key, -1 - room), now
      if limit.take <= room then
        answer[n + 4] = spent_at(limit.key, -1 - room + limit.take)
      end
    end
  else
    local need = number()
    limit.take = number()
    if kind == 'f' then
      limit.lease = number()
    end
    local most = number()
    local tick, ticks
    if kind == 's' then
      tick, ticks = number(), number()
    end
    local floor_end, floor, floor_before = number(), number(), 0
    if kind == 's' then
      floor_before = number()
    end
    if floor_end > limit.start then
      floor, floor_before = math.min(floor, limit.cap), math.min(floor_before, limit.cap)
    elseif kind == 's' and floor_end + limit.window > limit.start then
      floor, floor_before = 0, math.min(floor, limit.cap)
    else
      floor, floor_before = 0, 0
    end
    if floor > limit.count or floor_before > limit.before then
      limit.count, limit.before = math.max(floor, limit.count), math.max(floor_before, limit.before)
      limit.changed = true
    end
    answer[n + 1], answer[n + 2] = limit.ends, limit.count
    local spent = limit.count
    if kind == 's' then
      answer[n + 3] = limit.before
      local left = math.min(math.ceil((limit.ends - now) / tick), ticks)
      spent = spent + math.ceil(limit.before * left / ticks)
    end
    limit.fits = spent + need <= most
    limit.left = most - spent - need
  end
  passes = passes and (limit.fits or not limit.binds)
end
if not passes then
  answer[1] = 0
end

for i = 1, #KEYS do
  local limit = limits[i]
  local kind = limit.kind
  if passes and limit.fits then
    if kind == 'b' then
      local lease, lease_part, life = limit.lease, limit.lease_part, 0
      if limit.ends == 0 then
        life = limit.life
      end
      -- Room for twice as much, after what the request needs.
      local most, most_part = plus(limit, limit.after + life, limit.after_part, lease, lease_part)
      most, most_part = plus(limit, most, most_part, lease, lease_part)
      local lends = limit.life > 0 and (lease > 0 or lease_part > 0)
        and not later(most, most_part, limit.latest, limit.latest_part)
      if lends or limit.take > 0 or limit.take_part > 0 then
        limit.micros, limit.part = plus(limit, limit.held, limit.held_part, limit.take, limit.take_part)
        limit.changed = true
      end
      if lends then
        limit.micros, limit.part = plus(limit, limit.micros + life, limit.part, lease, lease_part)
        limit.ends = now + limit.life
      end
    elseif kind == 'l' then
      charge(limit, limit.take, 0)
    else
      local lease = limit.lease or 0
      if 2 * lease > limit.left then
        lease = 0
      end
      limit.count, limit.changed = limit.count + limit.take + lease, limit.changed or limit.take + lease > 0
    end
  elseif limit.even then
    charge(limit, limit.take, limit.take_part)
  end
  if limit.changed then
    keep(limit)
  end
end
return answer
