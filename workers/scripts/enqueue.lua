-- Enqueue many jobs of one queue, as SAQ enqueues one: a key that is incomplete, or being aborted, is refused.
--
-- KEYS  1 queued  2 incomplete: as in take.lua
-- ARGV  1 channel that wakes workers  2 queue name
--       then for each job: id, SAQ's abort key, Unix second at which it becomes ready (0: now), body
-- Reply one number a job: 1 enqueued, 0 refused.
local result, ready, delayed = {}, {}, false
for i = 3, #ARGV, 4 do
  local id, score = ARGV[i], tonumber(ARGV[i + 2])
  if redis.call('ZSCORE', KEYS[2], id) or redis.call('EXISTS', ARGV[i + 1]) == 1 then
    result[#result + 1] = 0
  else
    redis.call('SET', id, ARGV[i + 3])
    redis.call('ZADD', KEYS[2], score, id)
    if score == 0 then ready[#ready + 1] = id else delayed = true end
    result[#result + 1] = 1
  end
end
if #ready > 0 then redis.call('RPUSH', KEYS[1], unpack(ready)) end
if delayed then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return result
