-- The occurrences of a schedule are enqueued again, from the next one on: those that it left out were not missed.
--
-- KEYS  1 cron  hash  as in disable_schedule.lua; schedule:enabled -> Unix second
-- ARGV  1 schedule
-- Reply 1, or 0 if it was not disabled
redis.call('HDEL', KEYS[1], '')  -- see take.lua: works on a server that is out of memory
if redis.call('HDEL', KEYS[1], ARGV[1] .. ':disabled') == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1] .. ':enabled', redis.call('TIME')[1])
return 1
