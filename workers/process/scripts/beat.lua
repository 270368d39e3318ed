-- Record the heartbeat of a worker.
--
-- KEYS  1 beats    zset  worker -> server time of its last heartbeat, ms
--       2 workers  hash  as in announce.lua; "vitals:" .. worker -> JSON of its figures at that heartbeat
-- ARGV  1 worker  2 JSON of its figures
-- Reply ms since its last heartbeat, -1 if it sent none, or if that is ahead of the server's clock.
redis.call('ZREM', KEYS[1], '')  -- see take.lua: a server that is out of memory does not make workers dead
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local last = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
redis.pcall('HSET', KEYS[2], 'vitals:' .. ARGV[1], ARGV[2])  -- another program may have changed the key's type
return last and math.max(-1, now_ms - tonumber(last)) or -1
