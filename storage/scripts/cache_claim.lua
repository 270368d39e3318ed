-- Ask for the right to load one cache entry; at most one holds it until it stores, gives up, or its time is over.
--
-- Invariant: the generations that are handed out exist when the load begins; whatever invalidates a subject removes
-- its generation, so that what was loaded before can be told from what is loaded after.
--
-- KEYS  1 entry  2 right to load: token of its holder, or 'failed' for a moment after a load failed
--       3.. generations of the entry's subjects
-- ARGV  1 token  2 ms for which the right lasts  3 ms for which a generation lasts without a claim
--       4 what a generation that is made now is called: unique
-- Reply {'load' | 'wait' | 'failed', body (nil: there is none), ms until the entry goes, generation ...}
local generations = {}
for i = 3, #KEYS do
  local name = redis.call('GET', KEYS[i])
  if name then
    if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
  else
    name = ARGV[4]
    redis.call('SET', KEYS[i], name, 'PX', ARGV[3])
  end
  generations[i - 2] = name
end
local right = 'load'
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  right = redis.call('GET', KEYS[2]) == 'failed' and 'failed' or 'wait'
end
return {right, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), unpack(generations)}
