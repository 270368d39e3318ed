-- The queue's jobs start again, in any process.
--
-- KEYS  1 pause  as in pause.lua  2 looks  hash  resumed: the server's time, ms; else as in take.lua
-- ARGV  1 channel that wakes the queue's workers  2 queue name
-- Reply 1 if it was paused, else 0
local paused = redis.call('DEL', KEYS[1])
if paused == 1 then
  local time = redis.call('TIME')
  redis.pcall('HSET', KEYS[2], 'resumed', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return paused
