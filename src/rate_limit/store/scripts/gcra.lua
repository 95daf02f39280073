-- Settles one request under token buckets that are not leased, as most are: charges all of them or, if one refuses, none.
-- The arithmetic is rate_limit/algorithm/gcra.rs: whole microseconds and a part of one in 1/quota µs; all numbers stay
-- below 2^53. settle.lua does all that this does, and more, at more than its price.
--
-- KEYS  one for each limit
-- ARGV  now in µs since the Unix epoch, or '' for this server's clock; then for each limit
--       interval (µs, part), tolerance (µs, part), quota (= parts in a µs); then, if anything was counted elsewhere, for
--       each limit how far ahead of now its state is there at least (µs, part)
-- Answers {1 if charged, now, and for each limit the state it was judged by (µs, part)}.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local answer, cut, after, fits = { 1, now }, {}, {}, true
local floors = #KEYS * 5 + 2
if not ARGV[floors] then
  floors = nil
end

for i = 1, #KEYS do
  local arg = i * 5 - 3
  local parts = tonumber(ARGV[arg + 4])
  local latest, latest_part = now + ARGV[arg + 2], tonumber(ARGV[arg + 3])

  local micros, part = now, 0
  local stored = redis.call('GET', KEYS[i])
  if stored then
    local stored_micros, stored_part, lease = string.match(stored, '^(%d+):(%d+)(:?)')
    stored_micros = tonumber(stored_micros)
    if stored_micros and stored_micros >= now then
      micros, part = stored_micros, tonumber(stored_part)
      if part >= parts then
        part, lease = parts - 1, ':'
      end
    end
    if lease == ':' then
      -- Another policy's parts, or the end of a lease of its: no limit that comes here is leased.
      cut[#cut + 1] = i
    end
  end
  if floors then
    local at = floors + i * 2 - 2
    local floor, floor_part = now + ARGV[at], math.min(tonumber(ARGV[at + 1]), parts - 1)
    if floor > micros or (floor == micros and floor_part > part) then
      micros, part = floor, floor_part
      cut[#cut + 1] = i
    end
  end
  if micros > latest or (micros == latest and part > latest_part) then
    micros, part = latest, latest_part
    cut[#cut + 1] = i
  end
  answer[2 * i + 1], answer[2 * i + 2] = micros, part

  micros, part = micros + ARGV[arg], part + ARGV[arg + 1]
  if part >= parts then
    micros, part = micros + 1, part - parts
  end
  fits = fits and (micros < latest or (micros == latest and part <= latest_part))
  after[2 * i + 1], after[2 * i + 2] = micros, part
end

if not fits then
  -- Nothing is charged. But what was counted elsewhere is from now on known here, to whoever asks; and what another policy
  -- left is cut to what this one allows.
  answer[1] = 0
  after = answer
end
for i = 1, fits and #KEYS or #cut do
  local at = fits and i or cut[i]
  local micros = after[2 * at + 1]
  -- Until it would say "full" again, and a second: a server that takes over may have a clock that is ahead.
  local life = math.ceil((micros + 1 - now) / 1000) + 1000
  local text = string.format('%d:%d', micros, after[2 * at + 2])
  redis.call('SET', KEYS[at], text, 'PX', string.format('%d', life))
end
return answer
