-- Be the only one who does something, for a while: take the place, keep it, or leave it.
--
-- Invariant: only who has the place can keep or leave it; who does not come again loses it, also where the
-- server's clock was set back meanwhile: a place that would be kept for longer than it can be is cut short.
--
-- KEYS  1 place  string  who has it, for as long as it lives
-- ARGV  1 who  2 ms for which the place is kept; 0: it is left
-- Reply 1 where it is, or was, held by who; else 0.
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[1])
  if ARGV[2] ~= '0' and (left < 0 or left > tonumber(ARGV[2])) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
