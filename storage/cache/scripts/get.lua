-- Read a cache entry and the versions of its tags, which decide whether it is valid.
--
-- It changes one thing only: a value of another type, or without a TTL, is not ours and is removed.
--
-- KEYS  1 entry  2.. versions of the entry's tags
-- Reply {body (nil: no entry; '': it was not ours), TTL of the entry in ms, version (nil: deleted) ...}
local body = redis.pcall('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if type(body) == 'table' or left == -1 then
  redis.call('UNLINK', KEYS[1])
  body = ''
end
local out = {body, left}
for i = 2, #KEYS do out[i + 1] = redis.call('GET', KEYS[i]) end
return out
