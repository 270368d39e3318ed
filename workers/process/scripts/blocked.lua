-- Record that a worker's event loop is blocked, or that it moves again.
--
-- KEYS  1 workers  hash  as in announce.lua; "blocked:" .. worker -> server time since when, ms, a space, and JSON
-- ARGV  1 worker  2 JSON of where it stands, '' when it moves again  3 ms for which it has been blocked
redis.call('HDEL', KEYS[1], '')  -- see take.lua: works on a server that is out of memory
local field = 'blocked:' .. ARGV[1]
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], field) end
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[3])
return redis.call('HSET', KEYS[1], field, string.format('%.0f ', since) .. ARGV[2])
