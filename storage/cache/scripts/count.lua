-- Add the reads of a process to the current minute of the server's clock.
--
-- KEYS  1 prefix of the minutes: hash outcome -> number
-- ARGV  1 TTL of a minute in seconds, then outcome, number ...
local key = string.format('%s%.0f', KEYS[1], math.floor(redis.call('TIME')[1] / 60))
for i = 2, #ARGV, 2 do redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', key, ARGV[1])
return redis.status_reply('OK')
