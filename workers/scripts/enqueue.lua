-- Enqueue many jobs of one queue, as SAQ enqueues one: a key that is incomplete, or being aborted, is refused.
--
-- KEYS  1 queued  2 incomplete: as in take.lua
--       3 cron    hash  schedule -> its newest occurrence for which jobs were enqueued, Unix second
-- ARGV  1 channel that wakes workers  2 queue name
--       3 schedule ('': none)  4 its occurrence: nothing is enqueued where that or a later one was before
--       then for each job: id, SAQ's abort key, Unix second at which it becomes ready (0: now), body
-- Reply one number a job: 1 enqueued, 0 refused; none where the occurrence is not new.
local result, ready, delayed = {}, {}, false
if ARGV[3] ~= '' then
  local newest = redis.call('HGET', KEYS[3], ARGV[3])
  if newest and tonumber(newest) >= tonumber(ARGV[4]) then return result end
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
end
local function push()
  if #ready > 0 then redis.call('RPUSH', KEYS[1], unpack(ready)) end
  ready = {}
end
for i = 5, #ARGV, 4 do
  local id, score = ARGV[i], tonumber(ARGV[i + 2])
  if redis.call('ZSCORE', KEYS[2], id) or redis.call('EXISTS', ARGV[i + 1]) == 1 then
    result[#result + 1] = 0
  else
    redis.call('SET', id, ARGV[i + 3])
    redis.call('ZADD', KEYS[2], score, id)
    if score == 0 then ready[#ready + 1] = id else delayed = true end
    if #ready == 1000 then push() end  -- Lua unpacks some thousands at the most
    result[#result + 1] = 1
  end
end
push()
if delayed then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return result
