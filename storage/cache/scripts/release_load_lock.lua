-- A load has ended without anything to store.
--
-- KEYS  1 right to load
-- ARGV  1 right, or the process that may hold one  2 ms for which others shall not try (0: they may)
local held = redis.call('GET', KEYS[1])
if not held or (held ~= ARGV[1] and string.match(held, '^%S+') ~= ARGV[1]) then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], (string.gsub(ARGV[1], '^%S+', 'failed')), 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
