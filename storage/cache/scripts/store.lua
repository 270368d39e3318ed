-- Store what was loaded, unless something that it depends on was invalidated since the load began, or the entry
-- itself was set or removed.
--
-- Invariant: an entry is stored only under the right and the generations that its load began with, and is on its
-- owner's list.
--
-- KEYS  1 entry  2 right to load  3 list of the owner's entries: zset entry -> ms at which it goes
--       4.. generations of the entry's subjects
-- ARGV  1 right  2 body  3 ms until the entry goes  4.. generations as they were when the load began
-- Reply 1 stored, 0 outdated
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
for i = 4, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[i] then return 0 end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, string.format('%.0f', now))
redis.call('ZADD', KEYS[3], string.format('%.0f', now + ARGV[3]), KEYS[1])
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end
return 1
