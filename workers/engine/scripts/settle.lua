-- Complete, retry, bury, abort, return or update jobs in flight, each only if its lease still stands.
--
-- Invariant: a job leaves active in the same step that puts it where it belongs next: nowhere (ended),
-- incomplete (retry), the head of queued (return), or the letters that wait for the database (bury).
-- If the lease was given to another worker, its old holder's settlement does nothing.  A key that an id of another
-- queue, or of no queue, names is never changed.
-- Everything that can fail and decides what a job becomes is tried before the first write; what is only counted,
-- kept for readers or announced may fail by itself.
--
-- KEYS  1 queued  2 active  3 incomplete  4 leases  5 looks: as in take.lua
--       6 completed  zset    job id -> end, ms: the newest completed jobs
--       7 failed     zset    job id -> end, ms: the newest failed jobs
--       8 letters    zset    letter uid -> time of death, ms: waiting for the database
--       9 letter     hash    letter uid -> the letter's JSON; of a large job "JSON\n" and the job's own JSON
--      10 totals     hash    counter -> how often since ever: outcomes, buckets of the wait and run histograms with
--                            their sums in us; ended_at, succeeded_at: server time, ms; as in history.lua
--      11 history    prefix  as in history.lua
--      12 outcomes   zset    "letter id:how it ended" of a replayed job -> end, ms: waiting for the database
-- ARGV  1 completed to keep  2 failed to keep  3 ms that a finished job stays readable
--       4 processes at most  5 channel that wakes the queue's workers  6 queue name
--       7 ms after which the record of an ended job goes in any case: with a TTL it may be evicted before a job is
--       8 bytes from which a record is large  9 the same for a large one
--       then for each job the fields below, as settlement.py writes them:
--         id, lease, verb (complete | retry | bury | abort | return | update), body
--         wait, wait_us  bucket of the histogram, and the time itself; '' if it has none
--         run, run_us    the same of the attempt's run time
--       and after them what its verb has of its own:
--         complete  outcome: the member of outcomes, if the job is a replay, else ''
--         retry     delay_ms: until the next attempt
--         bury      lost; letter_uid; letter: the letter's JSON; payload, where its job is:
--                   '' in that JSON | body: the body follows it | stored: the record that is stored follows it
--         abort     outcome; abort_key: the key of SAQ's request
--         return    lost: 1 if the worker of the attempt has died, else ''
-- Reply one number a job: 1 done, 0 the lease no longer stands, or the job has ended before.
local queued, active, incomplete, leases, looks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FIRST = 10
local ID, LEASE, VERB, BODY, WAIT, WAIT_US, RUN, RUN_US = 0, 1, 2, 3, 4, 5, 6, 7
local OUTCOME, DELAY_MS, LOST = 8, 8, 8
local LETTER_UID, LETTER, PAYLOAD = 9, 10, 11
local ABORT_KEY = 9
local WIDTH = {complete = 9, retry = 9, bury = 12, abort = 10, ['return'] = 9, update = 8}
local prefix = 'saq:job:' .. ARGV[6] .. ':'

local ids, starts, buries, replayed = {}, {}, false, false
local first, last = FIRST, #ARGV
while first <= last do
  local verb = ARGV[first + VERB]
  ids[#ids + 1] = ARGV[first + ID]
  starts[#ids] = first
  if verb == 'bury' then
    buries = true
  elseif (verb == 'complete' or verb == 'abort') and ARGV[first + OUTCOME] ~= '' then
    replayed = true
  end
  first = first + WIDTH[verb]
end
local depth = redis.call('LLEN', queued)
local scores = redis.call('ZMSCORE', incomplete, unpack(ids))
if buries then
  redis.call('ZCARD', KEYS[8])
  redis.call('HLEN', KEYS[9])
end
if replayed then redis.call('ZCARD', KEYS[12]) end
local standby = redis.call('HGET', looks, 'standby')
redis.call('HDEL', looks, '')  -- see take.lua: lets jobs end on a server that is out of memory
local standing = {}  -- by id: a job that is listed twice is settled once
for k, lease in ipairs(redis.call('HMGET', leases, unpack(ids))) do standing[ids[k]] = lease end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%.0f', now_ms)  -- a number is written anew each time it is an argument
keep_point(KEYS[10], KEYS[11], now_ms, depth, redis.call('HLEN', leases))
local status = {
  complete = 'complete', bury = 'failed', abort = 'aborted', retry = 'queued', ['return'] = 'queued',
}
local counter = {
  complete = {'completed'}, retry = {'failed', 'retried'}, bury = {'failed', 'dead_lettered'}, abort = {'aborted'},
  ['return'] = {'returned'},
}
local lost = {bury = {'failed', 'dead_lettered', 'lost'}, ['return'] = {'failed', 'retried', 'lost'}}
local completed, failed = {}, {}
local kept = {complete = completed, bury = failed, abort = failed}
local left, ended = {}, {}
local outcomes, result, wake = {}, {}, false

local function is_ours(id)
  return string.sub(id, 1, #prefix) == prefix
end

-- The job that follows its letter, so that no job is sent twice.
local function following_job(id, payload, body)
  if payload == 'body' then return body end
  -- A foreign producer may have made it of any type.
  local stored = payload == 'stored' and is_ours(id) and redis.pcall('GET', id)
  return type(stored) == 'string' and stored or ''
end

-- Store the record of a job that has ended.  An empty body: its data is gone or unreadable, and stays as it is.
local function store_ended(id, body)
  if not is_ours(id) then return end
  if body == '' then
    redis.call('PEXPIRE', id, ARGV[9])
  else
    redis.call('SET', id, body, 'PX', #body < tonumber(ARGV[8]) and ARGV[7] or ARGV[9])
  end
end

-- The record, as ended, of a job that SAQ's abort took off incomplete; nil if it is not of an aborted job.
local function aborted_record(id)
  local stored = redis.pcall('GET', id)
  if type(stored) ~= 'string' then return nil end
  local readable, record = pcall(cjson.decode, stored)
  if not readable or type(record) ~= 'table' or record.status ~= 'aborting' then return nil end
  return (string.gsub(stored, '"status"%s*:%s*"aborting"', '"status":"aborted"'))
end

local function count(name, by)
  outcomes[name] = (outcomes[name] or 0) + (by or 1)
end

for k, id in ipairs(ids) do
  local at = starts[k]
  local lease, verb, body = ARGV[at + LEASE], ARGV[at + VERB], ARGV[at + BODY]
  if standing[id] ~= lease then
    result[k] = 0
  elseif not scores[k] and is_ours(id) and redis.call('PTTL', id) > 0 then
    -- Another program wrote a lease on a job that has ended: it ends once.
    standing[id] = false
    left[#left + 1] = id
    redis.call('LREM', active, 1, id)
    count('repaired:lease')
    result[k] = 0
  elseif not scores[k] and is_ours(id) and (verb == 'retry' or verb == 'return') and aborted_record(id) then
    -- No process has noticed yet that it is to be aborted.
    standing[id] = false
    left[#left + 1] = id
    redis.call('LREM', active, 1, id)
    failed[#failed + 1] = now_text
    failed[#failed + 1] = id
    store_ended(id, aborted_record(id))
    redis.pcall('PUBLISH', id, 'aborted')
    count('aborted')
    result[k] = 1
  elseif verb == 'update' then
    -- If it is off incomplete it was aborted: the record of that stays.
    if is_ours(id) and scores[k] then redis.call('SET', id, body) end
    result[k] = 1
  else
    standing[id] = false
    left[#left + 1] = id
    redis.call('LREM', active, 1, id)
    if verb == 'retry' then
      redis.call('ZADD', incomplete, (now_ms + tonumber(ARGV[at + DELAY_MS])) / 1000, id)
      wake = true  -- every process notes when it is due, also if this one is gone by then
    elseif verb == 'return' then
      redis.call('ZADD', incomplete, 0, id)
      depth = redis.call('LPUSH', queued, id)
    else
      ended[#ended + 1] = id
      local newest = kept[verb]
      newest[#newest + 1] = now_text
      newest[#newest + 1] = id
    end
    if verb == 'abort' then redis.call('DEL', ARGV[at + ABORT_KEY]) end
    if verb == 'bury' then
      local uid = ARGV[at + LETTER_UID]
      redis.call('ZADD', KEYS[8], now_ms, uid)
      redis.call('HSET', KEYS[9], uid, ARGV[at + LETTER] .. following_job(id, ARGV[at + PAYLOAD], body))
    elseif (verb == 'complete' or verb == 'abort') and ARGV[at + OUTCOME] ~= '' then
      redis.call('ZADD', KEYS[12], now_ms, ARGV[at + OUTCOME])
    end
    if kept[verb] then store_ended(id, body) elseif body ~= '' and is_ours(id) then redis.call('SET', id, body) end
    redis.pcall('PUBLISH', id, status[verb])
    local is_lost = lost[verb] and ARGV[at + LOST] ~= ''
    for _, name in ipairs((is_lost and lost or counter)[verb]) do count(name) end
    if ARGV[at + WAIT] ~= '' then
      count('w' .. ARGV[at + WAIT])
      count('wait_us', tonumber(ARGV[at + WAIT_US]))
    end
    if ARGV[at + RUN] ~= '' then
      count('r' .. ARGV[at + RUN])
      count('run_us', tonumber(ARGV[at + RUN_US]))
    end
    result[k] = 1
  end
end

if #left > 0 then redis.call('HDEL', leases, unpack(left)) end
if #ended > 0 then redis.call('ZREM', incomplete, unpack(ended)) end
if standby then
  local holders, is_holder = 0, {}
  for _, lease in ipairs(redis.call('HVALS', leases)) do
    local holder = string.match(lease, '^[^:]*')
    if not is_holder[holder] then
      is_holder[holder] = true
      holders = holders + 1
    end
  end
  if holders < tonumber(ARGV[4]) then
    redis.call('HDEL', looks, 'standby')
    wake = true
  end
end
if wake then redis.pcall('PUBLISH', ARGV[5], ARGV[6]) end

-- Have the server index a new zset.  It searches a small one of short members from the beginning: with a hundred
-- job ids each ZADD takes 4 us more.  A member of more than 64 bytes has it build the index, which then stays.
local function index(key)
  local long = string.rep('-', 65)
  redis.pcall('ZADD', key, 0, long)
  redis.pcall('ZREM', key, long)
end

-- The newest stay; what falls out stays readable a little longer, unless its key has been enqueued again.
local function keep(key, other, new, most)
  if #new == 0 then return end
  if type(redis.pcall('ZADD', key, unpack(new))) ~= 'number' then return end
  local names = {}
  for i = 2, #new, 2 do names[#names + 1] = new[i] end
  redis.pcall('ZREM', other, unpack(names))
  local size = redis.call('ZCARD', key)
  if size == #names then index(key) end
  local over = size - most
  if over <= 0 then return end
  local out = {}
  for i, id in ipairs(redis.call('ZPOPMIN', key, over)) do
    if i % 2 == 1 and is_ours(id) then out[#out + 1] = id end
  end
  if #out == 0 then return end
  for i, score in ipairs(redis.call('ZMSCORE', incomplete, unpack(out))) do
    if not score then redis.call('PEXPIRE', out[i], ARGV[3]) end
  end
end
keep(KEYS[6], KEYS[7], completed, tonumber(ARGV[1]))
keep(KEYS[7], KEYS[6], failed, tonumber(ARGV[2]))

if next(outcomes) then
  for name, by in pairs(outcomes) do redis.pcall('HINCRBY', KEYS[10], name, by) end
  if outcomes.completed then
    redis.pcall('HSET', KEYS[10], 'ended_at', now_text, 'succeeded_at', now_text)
  elseif outcomes.failed or outcomes.aborted then
    redis.pcall('HSET', KEYS[10], 'ended_at', now_text)
  end
end
return result
