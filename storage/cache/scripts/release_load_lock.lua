-- Release the lock of a load that stored nothing.
--
-- KEYS  1 load lock
-- ARGV  1 token, or the process that may hold the lock  2 ms for which others must not load (0: they may)
-- Reply 1 released, 0 not held
local held = redis.call('GET', KEYS[1])
if not held or (held ~= ARGV[1] and string.match(held, '^%S+') ~= ARGV[1]) then return 0 end
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[1], (string.gsub(ARGV[1], '^%S+', 'failed')), 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
return 1
