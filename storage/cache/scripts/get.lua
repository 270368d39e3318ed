-- Read one cache entry with the generations that say whether it still counts.
--
-- Changes nothing but one thing: a value of another type, or without an end, is no entry of ours and is removed.
--
-- KEYS  1 entry  2.. generations of the entry's subjects
-- Reply {body (nil: there is none; '': it was foreign), ms until the entry goes, generation (nil: gone) ...}
local body = redis.pcall('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if type(body) == 'table' or left == -1 then
  redis.call('UNLINK', KEYS[1])
  body = ''
end
local out = {body, left}
for i = 2, #KEYS do out[i + 1] = redis.call('GET', KEYS[i]) end
return out
