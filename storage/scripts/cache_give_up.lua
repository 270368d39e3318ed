-- A load has ended without anything to store.
--
-- KEYS  1 right to load
-- ARGV  1 token  2 ms for which others shall not try (0: they may)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], 'failed', 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
