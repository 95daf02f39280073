-- Settles one request under several limits: charges all of them or, if one refuses, none. The arithmetic is
-- rate_limit/algorithm/gcra.rs: whole microseconds and a part of one in 1/quota µs; all numbers stay below 2^53.
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

local function plus(micros, part, more, more_part, parts)
  micros, part = micros + more, part + more_part
  if part >= parts then
    return micros + 1, part - parts
  end
  return micros, part
end

local function later(micros, part, than, than_part)
  return micros > than or (micros == than and part > than_part)
end

local function keep(key, micros, part)
  -- Until it would say "full" again, and a second: a server that takes over may have a clock that is ahead.
  local life = math.ceil((micros + 1 - now) / 1000) + 1000
  redis.call('SET', key, string.format('%.0f:%.0f', micros, part), 'PX', string.format('%.0f', life))
end

local answer, raised, after, fits = { 1, now }, {}, {}, true
local floors = #KEYS * 5 + 2
if not ARGV[floors] then
  floors = nil
end

for i = 1, #KEYS do
  local arg = (i - 1) * 5 + 2
  local parts = tonumber(ARGV[arg + 4])
  local latest, latest_part = plus(now, 0, tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3]), parts)

  local micros, part = now, 0
  local stored = redis.call('GET', KEYS[i])
  if stored then
    local stored_micros, stored_part = string.match(stored, '^(%d+):(%d+)$')
    if stored_micros and tonumber(stored_micros) >= now then
      micros, part = tonumber(stored_micros), math.min(tonumber(stored_part), parts - 1)
    end
  end
  if floors then
    local at = floors + (i - 1) * 2
    local floor, floor_part = now + tonumber(ARGV[at]), math.min(tonumber(ARGV[at + 1]), parts - 1)
    if later(floor, floor_part, micros, part) then
      micros, part = floor, floor_part
      raised[#raised + 1] = i
    end
  end
  if later(micros, part, latest, latest_part) then
    micros, part = latest, latest_part
  end
  answer[#answer + 1], answer[#answer + 2] = micros, part

  micros, part = plus(micros, part, tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), parts)
  fits = fits and not later(micros, part, latest, latest_part)
  after[i] = { micros, part }
end

if fits then
  for i = 1, #KEYS do
    keep(KEYS[i], after[i][1], after[i][2])
  end
else
  answer[1] = 0
  -- Nothing is charged; but what was counted elsewhere is from now on known here, to whoever asks.
  for _, i in ipairs(raised) do
    keep(KEYS[i], answer[2 * i + 1], answer[2 * i + 2])
  end
end
return answer
