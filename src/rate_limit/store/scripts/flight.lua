-- Lets one request in under several limits on requests in flight: it takes a place under all of them or, if one that refuses
-- is full, under none. What is decided is rate_limit/in_flight/room.rs.
--
-- KEYS  one for each limit: who is in flight, and until when its place lasts (ms, by this server's clock)
-- ARGV  now in ms since the Unix epoch, or '' for this server's clock; who; then for each limit
--       most, how long a place lasts (ms), 1 if it refuses or 0 if it only watches
-- Answers {1 if it was let in, and for each limit how many were in flight before}.

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end

local answer, passes = { 1 }, true
for i, key in ipairs(KEYS) do
  local most, life, refuses = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), ARGV[3 * i + 2] == '1'
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  local before = redis.call('ZCARD', key)
  if before >= most then
    -- What nobody can have said yet: this server's clock was set back, or it took over from one that was ahead.
    before = before - redis.call('ZREMRANGEBYSCORE', key, '(' .. whole(now + 2 * life), '+inf')
  end
  answer[i + 1] = before
  passes = passes and (before < most or not refuses)
end

if not passes then
  answer[1] = 0
  return answer
end
for i, key in ipairs(KEYS) do
  local most, life = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  if answer[i + 1] < most then
    redis.call('ZADD', key, whole(now + life), ARGV[2])
    -- Longer than any place in it; and not said again for each request.
    if redis.call('PTTL', key) < life then
      redis.call('PEXPIRE', key, whole(2 * life))
    end
  end
end
return answer
