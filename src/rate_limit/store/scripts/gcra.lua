-- Settles one request under token buckets that are not leased, as most are: charges all of them or, if one refuses, none.
-- The arithmetic is rate_limit/algorithm/gcra.rs: whole microseconds and a part of one in 1/quota µs; all numbers stay
-- below 2^53. settle.lua does all that this does, and more, at more than its price.
--
-- KEYS  one for each limit
-- ARGV  one, of numbers as store/packed.rs writes them: now in µs since the Unix epoch, or 0 for this server's clock; then for
--       each limit interval (µs, part), tolerance (µs, part), quota (= parts in a µs), and how far ahead of now its state is
--       at least, as counted elsewhere (µs, part)
-- Answers in the same form: 1 if charged, or 0; now; and for each limit the state it was judged by (µs, part).
--
-- Why: most of what a decision costs this server is text. An argument that is a number costs it a third of what GET does.

local unpack, pack, call, match, format = struct.unpack, struct.pack, redis.call, string.match, string.format
local packed = ARGV[1]

local now = unpack('>d', packed)
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- The state that limit i is judged by, whether it is news to this server, the state after, and whether that is allowed.
local function judge(i)
  local interval, interval_part, tolerance, tolerance_part, parts, floor, floor_part =
    unpack('>ddddddd', packed, i * 56 - 47)

  local micros, part, news = now, 0, false
  local stored = call('GET', KEYS[i])
  if stored then
    local stored_micros, stored_part, lease = match(stored, '^(%d+):(%d+)(:?)')
    stored_micros = tonumber(stored_micros)
    if stored_micros and stored_micros >= now then
      micros, part = stored_micros, tonumber(stored_part)
    end
    -- Another policy's parts, or the end of a lease of its: no limit that comes here is leased.
    news = part >= parts or lease == ':'
    if part >= parts then
      part = parts - 1
    end
  end
  floor = now + floor
  if floor_part >= parts then
    floor_part = parts - 1
  end
  if floor > micros or (floor == micros and floor_part > part) then
    micros, part, news = floor, floor_part, true
  end
  local latest = now + tolerance
  if micros > latest or (micros == latest and part > tolerance_part) then
    micros, part, news = latest, tolerance_part, true
  end

  local after, after_part = micros + interval, part + interval_part
  if after_part >= parts then
    after, after_part = after + 1, after_part - parts
  end
  return micros, part, news, after, after_part, after < latest or (after == latest and after_part <= tolerance_part)
end

local function keep(i, micros, part)
  -- Until it would say "full" again, and a second: a server that takes over may have a clock that is ahead.
  local life = format('%d', (micros + 1 - now) / 1000 + 1001)
  call('SET', KEYS[i], format('%d:%d', micros, part), 'PX', life)
end

-- Most requests are under one limit: it needs no tables.
if not KEYS[2] then
  local micros, part, news, after, after_part, fits = judge(1)
  if fits then
    keep(1, after, after_part)
  elseif news then
    keep(1, micros, part)
  end
  return pack('>dddd', fits and 1 or 0, now, micros, part)
end

local all_fit, judged, answer = true, {}, {}
for i = 1, #KEYS do
  local micros, part, news, after, after_part, fits = judge(i)
  all_fit = all_fit and fits
  judged[i] = { micros, part, news, after, after_part }
  answer[i] = pack('>dd', micros, part)
end
for i, limit in ipairs(judged) do
  if all_fit then
    keep(i, limit[4], limit[5])
  elseif limit[3] then
    -- Nothing is charged. But what was counted elsewhere is from now on known here, to whoever asks; and what another policy
    -- left is cut to what this one allows.
    keep(i, limit[1], limit[2])
  end
end
return pack('>dd', all_fit and 1 or 0, now) .. table.concat(answer)
