-- Records since when a condition lasts that no step of a queue writes down: for instance, no worker serves it.
-- The first process that observes it writes the moment; all others read it.  It also has when a condition was
-- seen to have ended: such a field, both over and there, gets the moment now.
--
-- KEYS  1 observed  hash  condition -> server time at which it was first observed, ms
-- ARGV  1 number of conditions that are there  then these  then those that are over
-- Reply the moment of each that is there, ms
local TTL_SECONDS = 604800
for i = tonumber(ARGV[1]) + 2, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local out = {}
for i = 2, tonumber(ARGV[1]) + 1 do
  local at = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
  if not (at and at > 0 and at <= now_ms) then
    at = now_ms
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', at))
    redis.call('EXPIRE', KEYS[1], TTL_SECONDS)
  end
  out[#out + 1] = string.format('%.0f', at)
end
return out
