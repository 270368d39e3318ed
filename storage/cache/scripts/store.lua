-- Store a loaded value, unless a tag of it was invalidated since the load began, or the entry was set or removed.
--
-- Invariant: an entry is stored only under the lock and the versions with which its load began, and is on its
-- owner's list.
--
-- KEYS  1 entry  2 load lock  3 list of the owner's entries: zset entry -> Unix time in ms at which it expires
--       4.. versions of the entry's tags
-- ARGV  1 token of the lock  2 body  3 TTL of the entry in ms  4.. versions when the load began
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
