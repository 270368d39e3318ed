-- Ask for the right to load one cache entry; at most one process holds it until it stores, gives up, or its time
-- is over.  Its holder is granted it again: a reply may have been lost.
--
-- Invariant: the generations that are handed out exist when the load begins; whatever invalidates a subject removes
-- its generation, so that what was loaded before can be told from what is loaded after.  A right that was given
-- under other generations is worth nothing, since what its holder loads will not be stored.
--
-- KEYS  1 entry  2 right to load: "holder generation ..."; holder is 'failed' for a moment after a load failed
--       3.. generations of the entry's subjects
-- ARGV  1 process  2 ms for which the right lasts  3 ms for which a generation lasts without a claim
--       4 what a generation that is made now is called: unique
-- Reply {'load' | 'wait' | 'failed', right, body (nil: there is none), ms until the entry goes, generation ...}
local function read(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and redis.call('PTTL', key) > 0 then return value end
end  -- of another type, or without an end, it is not ours: as if there were none

local generations = {}
for i = 3, #KEYS do
  local name = read(KEYS[i])
  if name then
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  else
    name = ARGV[4]
    redis.call('SET', KEYS[i], name, 'PX', ARGV[3])
  end
  generations[i - 2] = name
end
local under = table.concat(generations, ' ')
local mine, failed = ARGV[1] .. ' ' .. under, 'failed ' .. under
local held, answer = read(KEYS[2]), 'load'
if held == failed then
  answer = 'failed'
elseif held and held ~= mine and string.sub(held, -#under - 1) == ' ' .. under then
  answer = 'wait'
else
  redis.call('SET', KEYS[2], mine, 'PX', ARGV[2])
end
return {answer, mine, read(KEYS[1]) or false, redis.call('PTTL', KEYS[1]), unpack(generations)}
