-- Enqueue many jobs of one queue, as SAQ enqueues one: a key that is incomplete, or being aborted, is a duplicate.
-- So is a key that has a lease: its job still runs, though SAQ's abort took it off incomplete.
--
-- Invariant: all jobs that are not duplicates are enqueued, or the call fails and none is: the types of the
-- keys are tried first, and the wake-up that ends it may fail by itself.
--
-- KEYS  1 queued  2 incomplete: as in take.lua
--       3 cron    hash  schedule -> its newest occurrence for which jobs were enqueued, Unix second;
--                       schedule:disabled: as in disable_schedule.lua
--       4 tokens  zset  token -> Unix second of its use; of a schedule, those of the occurrence under way
--       5 leases: as in take.lua
-- ARGV  1 channel that wakes workers  2 queue name
--       3 schedule ('': none)  4 its occurrence: nothing is enqueued if that or a later one was before, or if
--       the schedule is disabled
--       5 seconds for which a token is remembered
--       6 1 if more jobs of the occurrence follow, which counts as enqueued with the last of them; else 0
--       then for each job: id, SAQ's abort key, Unix second at which it becomes ready (0: now), body,
--       token ('': none): nothing is enqueued if it was used before
-- Reply one number a job: 1 enqueued, 0 a duplicate, 2 its token was used before; none if the occurrence is not new.
local ids = {}
for i = 7, #ARGV, 5 do
  ids[#ids + 1] = ARGV[i]
  local score = tonumber(ARGV[i + 2])
  if not score or score ~= score or score == math.huge then
    return redis.error_reply('ERR ' .. ARGV[i] .. ' is scheduled for "' .. ARGV[i + 2] .. '", which is no time')
  end
end

redis.call('LLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
local leased = #ids > 0 and redis.call('HMGET', KEYS[5], unpack(ids)) or {}
if #ARGV >= 11 and ARGV[11] ~= '' then redis.call('ZCARD', KEYS[4]) end
local now = redis.call('TIME')[1]
local result, ready, used, delayed = {}, {}, {}, false
if ARGV[3] ~= '' then
  if redis.call('HEXISTS', KEYS[3], ARGV[3] .. ':disabled') == 1 then return result end
  local newest = tonumber(redis.call('HGET', KEYS[3], ARGV[3]))
  -- An occurrence that lies ahead does not count: the clock was set back.
  if newest and newest >= tonumber(ARGV[4]) and newest <= tonumber(now) then return result end
  if ARGV[6] == '0' then redis.call('HSET', KEYS[3], ARGV[3], ARGV[4]) end
end
local function push()
  if #ready > 0 then redis.call('RPUSH', KEYS[1], unpack(ready)) end
  if #used > 0 then redis.call('ZADD', KEYS[4], unpack(used)) end
  ready, used = {}, {}
end
for k, id in ipairs(ids) do
  local i = 7 + (k - 1) * 5
  local score, token = tonumber(ARGV[i + 2]), ARGV[i + 4]
  if token ~= '' and redis.call('ZSCORE', KEYS[4], token) then
    result[#result + 1] = 2
  elseif leased[k] or redis.call('ZSCORE', KEYS[2], id) or redis.call('EXISTS', ARGV[i + 1]) == 1 then
    result[#result + 1] = 0
  else
    redis.call('SET', id, ARGV[i + 3])
    redis.call('ZADD', KEYS[2], score, id)
    if token ~= '' then used[#used + 1] = now; used[#used + 1] = token end
    if score == 0 then ready[#ready + 1] = id else delayed = true end
    if #ready + #used >= 1000 then push() end  -- Lua unpacks some thousands at the most
    result[#result + 1] = 1
  end
end
push()
if ARGV[3] ~= '' then
  if ARGV[6] == '0' then redis.call('DEL', KEYS[4]) end
elseif #ARGV >= 11 and ARGV[11] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, now - tonumber(ARGV[5]))
end
if delayed then redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end
return result
