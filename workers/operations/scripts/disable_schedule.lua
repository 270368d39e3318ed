-- No occurrence of a schedule is enqueued from now on, in any process.
--
-- KEYS  1 cron  hash  as in enqueue.lua; schedule:disabled -> since when (Unix seconds), a space, JSON: by, reason
-- ARGV  1 schedule  2 JSON
-- Reply 1, or 0 if it was disabled before: that stays as it is
redis.call('HDEL', KEYS[1], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local note = string.format('%.0f.%06d %s', time[1], time[2], ARGV[2])
return redis.call('HSETNX', KEYS[1], ARGV[1] .. ':disabled', note)
