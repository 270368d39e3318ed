-- Which jobs' records have not ended although incomplete does not have their ids.  Changes nothing.
--
-- KEYS  1 incomplete: as in take.lua
-- ARGV  ids
-- Reply those ids
local out = {}
for _, id in ipairs(ARGV) do
  -- The record of a job that has ended has a TTL.
  if not redis.call('ZSCORE', KEYS[1], id) and redis.call('PTTL', id) == -1 then out[#out + 1] = id end
end
return out
