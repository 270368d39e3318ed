-- Request the right to load a cache entry.  At most one process holds it until it stores, releases it, or the lock
-- expires.  The holder is granted it again, since its reply may be lost.
--
-- Invariant: the versions in the reply exist when the load begins.  An invalidation deletes the version of a tag, so
-- a value that was loaded before it can be distinguished from one loaded after it.  A lock under older versions does not
-- count, since the value of its holder will not be stored.
--
-- KEYS  1 entry  2 load lock  string  "holder version ..."; holder is 'failed' for a moment after a failed load
--       3.. versions of the entry's tags
-- ARGV  1 process  2 TTL of the lock in ms  3 shortest TTL of a version in ms
--       4 name of a version that is created now: unique
-- Reply {'load' | 'wait' | 'failed', token, body (nil: no entry), TTL of the entry in ms, version ...}
local function read(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and redis.call('PTTL', key) > 0 then return value end
end  -- a value of another type, or without a TTL, is not ours: as if there were none

local versions = {}
for i = 3, #KEYS do
  local name = read(KEYS[i])
  if name then
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  else
    name = ARGV[4]
    redis.call('SET', KEYS[i], name, 'PX', ARGV[3])
  end
  versions[i - 2] = name
end
local under = table.concat(versions, ' ')
local mine, failed = ARGV[1] .. ' ' .. under, 'failed ' .. under
local held, outcome = read(KEYS[2]), 'load'
if held == failed then
  outcome = 'failed'
elseif held and held ~= mine and string.sub(held, -#under - 1) == ' ' .. under then
  outcome = 'wait'
else
  redis.call('SET', KEYS[2], mine, 'PX', ARGV[2])
end
return {outcome, mine, read(KEYS[1]) or false, redis.call('PTTL', KEYS[1]), unpack(versions)}
