-- KEYS[1]: a lock on fetches. ARGV[1]: what stands there. ARGV[2]: what is to stand there instead, for ARGV[3] ms;
-- empty: nothing. Changes nothing where something else stands. Returns 1 if it changed something.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
