-- The beginning of settle.lua, charge.lua and give_back.lua: reads what is known of a key under the policy in force, and
-- keeps what is left. The arithmetic is that of rate_limit/algorithm: whole numbers, all below 2^53.
--
-- KEYS  one for each limit
-- ARGV  now in µs since the Unix epoch, or '' for this server's clock; then for each limit a letter, the policy's numbers,
--       and what the script wants besides
--         b  token bucket: quota (= parts in a µs), furthest state (µs, part), life of a lease (µs)
--         f  fixed windows: cap; start of a window, of the next, and that one's end (µs)
--         s  sliding window: cap, window (µs)
--         l  log: quota, window (µs)

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local at = 1
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

local function plus(limit, micros, part, more, more_part)
  micros, part = micros + more, part + more_part
  if part >= limit.parts then
    return micros + 1, part - limit.parts
  end
  return micros, part
end

local function later(micros, part, than, than_part)
  return micros > than or (micros == than and part > than_part)
end

local function spent_at(key, from)
  local found = redis.call('ZRANGE', key, from, from, 'WITHSCORES')
  return tonumber(found[2]) or now
end

-- Adds units to a log, at now, and forgets what is too much to remember.
local function add(limit, units)
  local moment, key = string.format('%d', now), limit.key
  local others = redis.call('ZREVRANGEBYSCORE', key, moment, moment, 'LIMIT', 0, 1)[1]
  local first = others and string.match(others, ':(%d+)$') + 1 or 0
  local last = first + math.min(units, limit.most) - 1
  for from = first, last, 500 do
    local members = {}
    for unit = from, math.min(from + 499, last) do
      members[#members + 1], members[#members + 2] = moment, string.format('%s:%06d', moment, unit)
    end
    redis.call('ZADD', key, unpack(members))
  end
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - limit.most)
  redis.call('PEXPIRE', key, string.format('%d', math.ceil(limit.window / 1000) + 1000))
end

-- What is known of a key, as the policy in force sees it; `changed` if Redis has to know.
local function known(key)
  at = at + 1
  local limit = { kind = ARGV[at], key = key }
  local kind = limit.kind
  if kind == 'l' then
    limit.most, limit.window = number(), number()
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%d', now - limit.window))
    limit.used = redis.call('ZCARD', key)
    if limit.used > limit.most then
      redis.call('ZREMRANGEBYRANK', key, 0, limit.used - limit.most - 1)
      limit.used = limit.most
    end
    limit.newest = 0
    if limit.used > 0 then
      limit.newest = spent_at(key, -1)
    end
    if limit.newest > now then
      -- The clock was set back: what is ahead of now counts as now.
      add(limit, redis.call('ZREMRANGEBYSCORE', key, string.format('(%d', now), '+inf'))
      limit.newest = now
    end
    return limit
  end

  local stored = redis.call('GET', key)
  local first, second, third
  if stored then
    first, second, third = string.match(stored, '^(%d+):(%d+):?(%d*)$')
    first, second, third = tonumber(first), tonumber(second), tonumber(third) or 0
  end
  if kind == 'b' then
    limit.parts = number()
    limit.furthest, limit.furthest_part = plus(limit, now, 0, number(), number())
    limit.life = number()
    limit.micros, limit.part, limit.ends = now, 0, 0
    if first then
      if first >= now then
        limit.micros, limit.part = first, math.min(second, limit.parts - 1)
      end
      local ends = math.min(third, now + limit.life)
      if ends > now then
        limit.ends = ends
      end
      limit.changed = (third > now and third ~= limit.ends) or (first >= now and second >= limit.parts)
      if later(limit.micros, limit.part, limit.furthest, limit.furthest_part) then
        limit.micros, limit.part, limit.changed, limit.beyond = limit.furthest, limit.furthest_part, true, true
      end
    end
    return limit
  end

  local cap, start, ends = number()
  if kind == 'f' then
    local middle
    start, middle, ends = number(), number(), number()
    if now < middle then
      local length = middle - start
      start = middle - math.ceil((middle - now) / length) * length
      ends = start + length
    else
      local length = ends - middle
      start = middle + math.floor((now - middle) / length) * length
      ends = start + length
    end
  else
    limit.window = number()
    start = now - now % limit.window
    ends = start + limit.window
  end
  limit.cap, limit.start, limit.ends, limit.count, limit.before = cap, start, ends, 0, 0
  if first then
    limit.changed = first ~= ends or second > cap or third > cap
    if first > start then
      limit.count = math.min(second, cap)
      limit.before = kind == 's' and math.min(third, cap) or 0
      limit.beyond = second > cap or (kind == 's' and third > cap)
    elseif kind == 's' and first + limit.window > start then
      limit.before = math.min(second, cap)
      limit.beyond = second > cap
    end
  end
  return limit
end

-- The state by which a bucket decides: while a lease is active, not below its life.
local function held(limit)
  if limit.ends > now and limit.micros < now + limit.life then
    return now + limit.life, 0
  end
  return limit.micros, limit.part
end

-- Charges units (of a bucket: µs and part), whether there is room or not.
local function charge(limit, units, part)
  local kind = limit.kind
  if kind == 'l' then
    if units > 0 then
      add(limit, units)
    end
  elseif kind == 'b' then
    if units > 0 or part > 0 then
      local micros, held_part = held(limit)
      micros, held_part = plus(limit, micros, held_part, units, part)
      if later(micros, held_part, limit.furthest, limit.furthest_part) then
        micros, held_part = limit.furthest, limit.furthest_part
      end
      limit.micros, limit.part, limit.changed = micros, held_part, true
    end
  else
    limit.count, limit.changed = math.min(limit.count + units, limit.cap), true
  end
end

-- Keeps the state until it would say "full" again, and a second: a server that takes over may have a clock that is ahead.
local function keep(limit)
  local kind, key = limit.kind, limit.key
  local text, full_at
  if kind == 'b' then
    text, full_at = string.format('%d:%d', limit.micros, limit.part), limit.micros + 1
    if limit.ends > now then
      text = string.format('%s:%d', text, limit.ends)
    end
  elseif kind == 'f' then
    text, full_at = string.format('%d:%d', limit.ends, limit.count), limit.ends
  else
    text, full_at = string.format('%d:%d:%d', limit.ends, limit.count, limit.before), limit.ends + limit.window
  end
  redis.call('SET', key, text, 'PX', string.format('%d', math.ceil((full_at - now) / 1000) + 1000))
end
