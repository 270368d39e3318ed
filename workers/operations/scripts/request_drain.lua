-- Request of a process that it drains, requeues its jobs, or takes jobs again.
--
-- Invariant: the newest request stands; one that is older than its time has no effect.
--
-- KEYS  1 workers  hash  as in announce.lua; "drain:" .. worker -> server time until which it stands, ms, a space, JSON
-- ARGV  1 worker  2 JSON  3 ms for which it stands  4 channel of the process  5 message
-- Reply how many connections got the message; -1 if the server does not let us publish
redis.call('HDEL', KEYS[1], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'drain:' .. ARGV[1], string.format('%.0f ', until_ms) .. ARGV[2])
local receivers = redis.pcall('PUBLISH', ARGV[4], ARGV[5])
return type(receivers) == 'number' and receivers or -1
