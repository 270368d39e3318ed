-- End, retry, bury, abort, put back or mark jobs in flight, each only where its lease still stands.
--
-- Invariant: a job leaves active in the same step that puts it where it belongs next: nowhere (ended),
-- incomplete (retry), the head of queued (put back), or the letters that wait for the database (buried).
-- A lease that was given to another makes its old holder's settlement do nothing.
--
-- KEYS  1 queued  2 active  3 incomplete  4 leases  5 holders: as in take.lua
--       6 completed  zset    job id -> end, ms: the newest completed jobs
--       7 failed     zset    job id -> end, ms: the newest failed jobs
--       8 letters    zset    letter uid -> time of death, ms: waiting for the database
--       9 letter     hash    letter uid -> the letter's JSON; of a large job "JSON\n" and the job's own JSON
--      10 totals     hash    outcome -> how many since ever
--      11 minute     prefix  of the hashes of one minute each: outcomes, wait and run histograms, depth
--      12 outcomes   zset    "letter id:how it ended" of a replayed job -> end, ms: waiting for the database
-- ARGV  1 completed to keep  2 failed to keep  3 ms that a finished job stays readable
--       4 processes at most  5 channel that wakes the queue's workers  6 queue name
--       7 ms after which the record of an ended job goes in any case: with a TTL it may be evicted before a job is
--       8 bytes from which a record is large  9 the same for a large one
--       then for each job: id, lease, verb, body, delay in ms, letter uid, letter, wait bucket, run bucket
--       verb: complete | retry | bury | abort (with SAQ's abort key in the place of the letter uid) | return | mark
--       (complete and abort of a replayed job have a member of outcomes in the place of the letter;
--       '' where a field has no meaning)
-- Reply one number a job: 1 done, 0 the lease no longer stands.
local queued, active, incomplete, leases, holders = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FIRST, WIDTH = 10, 9

local ids = {}
for i = FIRST, #ARGV, WIDTH do ids[#ids + 1] = ARGV[i] end
redis.call('HDEL', leases, '')  -- see take.lua: lets jobs end on a server that is out of memory
local standing = {}  -- by id: a job that is listed twice is settled once
for k, lease in ipairs(redis.call('HMGET', leases, unpack(ids))) do standing[ids[k]] = lease end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local status = {
  complete = 'complete', bury = 'failed', abort = 'aborted', retry = 'queued', ['return'] = 'queued',
}
local counter = {
  complete = {'completed'}, retry = {'failed', 'retried'}, bury = {'failed', 'dead_lettered'}, abort = {'aborted'},
}
local completed, failed = {}, {}
local kept = {complete = completed, bury = failed, abort = failed}
local left, ended = {}, {}
local freed, outcomes, buckets, result, wake = {}, {}, {}, {}, false

-- What comes after a letter, so that no job is sent twice.
local function rest(id, which, body)
  if which == 'body' then return body end
  local stored = which == 'stored' and redis.pcall('GET', id)  -- of any type, where a foreign producer made it
  return type(stored) == 'string' and stored or ''
end

-- Store the record of a job that has ended.  An empty body: its data is gone or unreadable, and stays as it is.
local function store_ended(id, body)
  if body == '' then
    redis.call('PEXPIRE', id, ARGV[9])
  else
    redis.call('SET', id, body, 'PX', #body < tonumber(ARGV[8]) and ARGV[7] or ARGV[9])
  end
end

local function count(counts, name)
  counts[name] = (counts[name] or 0) + 1
end

for k, id in ipairs(ids) do
  local at = FIRST + (k - 1) * WIDTH
  local lease, verb, body = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if standing[id] ~= lease then
    result[k] = 0
  elseif verb == 'mark' then
    redis.call('SET', id, body)
    result[k] = 1
  else
    standing[id] = false
    left[#left + 1] = id
    redis.call('LREM', active, 1, id)
    local worker = string.match(lease, '^[^:]+')
    freed[worker] = (freed[worker] or 0) + 1
    if verb == 'retry' then
      redis.call('ZADD', incomplete, (now_ms + tonumber(ARGV[at + 4])) / 1000, id)
      wake = true  -- every process notes when it is due, also if this one is gone by then
    elseif verb == 'return' then
      redis.call('ZADD', incomplete, 0, id)
      redis.call('LPUSH', queued, id)
    else
      ended[#ended + 1] = id
      local newest = kept[verb]
      newest[#newest + 1] = now_ms
      newest[#newest + 1] = id
    end
    if verb == 'abort' then redis.call('DEL', ARGV[at + 5]) end
    if verb == 'bury' then
      redis.call('ZADD', KEYS[8], now_ms, ARGV[at + 5])
      redis.call('HSET', KEYS[9], ARGV[at + 5], ARGV[at + 6] .. rest(id, ARGV[at + 4], body))
    elseif ARGV[at + 6] ~= '' then
      redis.call('ZADD', KEYS[12], now_ms, ARGV[at + 6])
    end
    if kept[verb] then store_ended(id, body) elseif body ~= '' then redis.call('SET', id, body) end
    redis.call('PUBLISH', id, status[verb])
    for _, name in ipairs(counter[verb] or {}) do count(outcomes, name) end
    if ARGV[at + 7] ~= '' then count(buckets, 'w' .. ARGV[at + 7]) end
    if ARGV[at + 8] ~= '' then count(buckets, 'r' .. ARGV[at + 8]) end
    result[k] = 1
  end
end

if #left > 0 then redis.call('HDEL', leases, unpack(left)) end
if #ended > 0 then redis.call('ZREM', incomplete, unpack(ended)) end
for worker, n in pairs(freed) do
  if redis.call('HINCRBY', holders, worker, -n) <= 0 then
    redis.call('HDEL', holders, worker)
    if redis.call('HLEN', holders) == tonumber(ARGV[4]) - 1 then wake = true end  -- a standby's turn
  end
end
if wake then redis.call('PUBLISH', ARGV[5], ARGV[6]) end

-- The newest stay; what falls out stays readable a little longer, unless its key has been enqueued again.
local function keep(key, other, new, most)
  if #new == 0 then return end
  redis.call('ZADD', key, unpack(new))
  local names = {}
  for i = 2, #new, 2 do names[#names + 1] = new[i] end
  redis.call('ZREM', other, unpack(names))
  local over = redis.call('ZCARD', key) - most
  if over <= 0 then return end
  local out = redis.call('ZPOPMIN', key, over)
  for i = 1, #out, 2 do
    if not redis.call('ZSCORE', incomplete, out[i]) then redis.call('PEXPIRE', out[i], ARGV[3]) end
  end
end
keep(KEYS[6], KEYS[7], completed, tonumber(ARGV[1]))
keep(KEYS[7], KEYS[6], failed, tonumber(ARGV[2]))

if next(outcomes) or next(buckets) then
  local minute = string.format('%s%.0f', KEYS[11], math.floor(time[1] / 60))
  for name, by in pairs(outcomes) do
    redis.call('HINCRBY', minute, name, by)
    redis.call('HINCRBY', KEYS[10], name, by)
  end
  for name, by in pairs(buckets) do redis.call('HINCRBY', minute, name, by) end
  redis.call('HSET', minute, 'depth', redis.call('LLEN', queued))
  redis.call('EXPIRE', minute, 4500)
end
return result
