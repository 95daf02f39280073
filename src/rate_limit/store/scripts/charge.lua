-- Charges one limit after the fact, whether there is room or not.
--
-- ARGV  besides: units (b: µs, part)
-- Answers 1.

local limit = known(KEYS[1])
charge(limit, number(), number())
if limit.changed then
  keep(limit)
end
return 1
