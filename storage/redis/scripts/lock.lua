-- Acquire, renew or release a lock that expires.
--
-- Invariant: only the holder can renew or release the lock; a holder that does not renew it loses it.  A TTL that
-- is longer than a lock's, or missing, is shortened: the server's clock may have been set back.
--
-- KEYS  1 lock  string  its holder, until it expires
-- ARGV  1 caller  2 TTL in ms; 0: release
-- Reply 1 if the caller holds the lock, or has released it; else 0.
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
