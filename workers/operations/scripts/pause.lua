-- Nothing of a queue starts from now on, in any process.
--
-- KEYS  1 pause  hash  by, reason, since (the server's Unix seconds)
-- ARGV  1 by  2 reason
-- Reply since
redis.call('HDEL', KEYS[1], '')  -- adds nothing: a server that is out of memory then lets the rest pass
local time = redis.call('TIME')
local since = string.format('%.0f.%06d', time[1], time[2])
redis.call('HSET', KEYS[1], 'by', ARGV[1], 'reason', ARGV[2], 'since', since)
return since
