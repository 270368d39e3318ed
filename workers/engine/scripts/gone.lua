-- Declare a worker dead, until it publishes its presence again.
--
-- Invariant: a worker that beats is not declared dead by others.
--
-- KEYS  1 workers  hash  as in announce.lua  2 beats  zset  as in take.lua
-- ARGV  1 worker  2 ms without a heartbeat after which it is dead; 0: it declares itself dead
-- Reply where its event loop was blocked, as in blocked.lua, nil if that is not known.
local LONG_AGO_MS = 3600000
redis.call('HDEL', KEYS[1], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local beat = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or 0)
local silent = beat > now_ms or now_ms - beat >= tonumber(ARGV[2])
if silent then
  redis.call('ZADD', KEYS[2], now_ms - LONG_AGO_MS, ARGV[1])  -- one that is missing would count as removed by others
  if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], 'at:' .. ARGV[1], -now_ms) end
end
return redis.call('HGET', KEYS[1], 'blocked:' .. ARGV[1])
