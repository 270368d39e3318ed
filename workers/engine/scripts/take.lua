-- Take up to n jobs of one queue, within pause, processes, concurrency and rate.
--
-- Invariant: a job is on exactly one of queued, active or (by its time) incomplete before and after;
-- a job on active has a lease, and there are never more leases than the concurrency.
-- Everything that can fail is tried before the first write: a key of another type, a counter that is not a number.
--
-- KEYS  1 queued      list    job ids that are ready, head first (SAQ's)
--       2 active      list    job ids in flight (SAQ's)
--       3 incomplete  zset    job id -> 0, or the Unix second at which it becomes ready (SAQ's)
--       4 leases      hash    job id -> "worker:token:taken_ms"
--       5 looks       hash    told: server time of the last message that a worker began to hold jobs, ms;
--                             standby: server time at which a process last found all slots taken, ms;
--                             since, last: as in lost.lua; reconciled: as in reconcile.lua;
--                             resumed: as in resume.lua
--       6 starts      zset    start -> server time in microseconds, for the rate limit
--       7 pause       hash    by, reason, since; absent while the queue runs
--       8 beats       zset    worker -> server time of its last heartbeat, ms
--       9 token       string  counter that makes each lease unique
--       10 failed     zset    as in settle.lua
--       11 totals     hash    as in settle.lua; started; started_at: server time of the newest start, ms
--       12 turns      hash    worker -> server time of its dispatcher's newest turn, ms
-- ARGV  1 worker  2 n  3 concurrency  4 processes at most  5 rate: starts (0: none)  6 rate: window, us
--       7 channel that wakes the queue's workers  8 queue name  9 bytes of the bodies in the reply
--       10 1 if the turn is to be noted in turns, as is done a few times a second at most; else ''
-- Reply {state, ms until something is known to change (-1: nothing known), leases of others, leases of its own
--        before this take, now_ms, depth, lease, id, body, id, body, ...}; body is '' if the job's data is gone
--        or the id is none of this queue, nil if it would make the reply too large: the first body is in it in
--        any case.
local queued, active, incomplete, leases, looks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local worker, n, concurrency = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local rate, window = tonumber(ARGV[5]), tonumber(ARGV[6])
local MOST = 1000  -- unpack takes some thousand values, and fails with the jobs off their list
local LONGEST_MS = 86400000  -- of a wait: a score may be infinite
local prefix = 'saq:job:' .. ARGV[8] .. ':'

local held, own, holders = 0, 0, 0
local is_holder, mine = {}, worker .. ':'
for _, lease in ipairs(redis.call('HVALS', leases)) do
  held = held + 1
  if string.sub(lease, 1, #mine) == mine then
    own = own + 1
  else
    local holder = string.match(lease, '^[^:]*')
    if not is_holder[holder] then
      is_holder[holder] = true
      holders = holders + 1
    end
  end
end
local depth = redis.call('LLEN', queued)
redis.call('LLEN', active)

-- A write that adds nothing comes first: a server that is out of memory then lets the rest of the script
-- pass, and jobs can end and free memory.
redis.call('HDEL', looks, '')

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
if ARGV[10] ~= '' then redis.pcall('HSET', KEYS[12], worker, now_ms) end

local function upcoming()
  return redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
end
local next_ = upcoming()
if next_[2] and tonumber(next_[2]) * 1000000 <= now_us then
  local due = redis.call('ZRANGEBYSCORE', incomplete, '(0', now_us / 1000000, 'LIMIT', 0, 1000)
  for _, id in ipairs(due) do
    redis.call('ZADD', incomplete, 0, id)
    redis.call('RPUSH', queued, id)
  end
  depth = depth + #due
  next_ = upcoming()
end

local wait = -1
local function until_us(at)
  local ms = math.min(LONGEST_MS, math.max(0, math.ceil((at - now_us) / 1000)))
  if wait < 0 or ms < wait then wait = ms end
end
if next_[2] then until_us(tonumber(next_[2]) * 1000000) end

local function reply(state)
  return {state, wait, held - own, own, now_ms, depth}
end

if redis.call('EXISTS', KEYS[7]) == 1 then return reply('paused') end
if n <= 0 then return reply('busy') end
if depth == 0 then return reply('empty') end
if own == 0 and holders >= tonumber(ARGV[4]) then
  redis.call('HSET', looks, 'standby', now_ms)  -- the process that frees a slot wakes this one
  return reply('standby')
end
n = math.min(n, concurrency - held, MOST)
if n <= 0 then return reply('full') end
if rate > 0 then
  local starts, now_text = KEYS[6], string.format('%.0f', now_us)
  redis.call('ZREMRANGEBYSCORE', starts, '-inf', '(' .. string.format('%.0f', now_us - window))
  -- The clock was set back: a start that lies ahead counts as one of this moment, and blocks no longer than that.
  for _, start in ipairs(redis.call('ZRANGEBYSCORE', starts, '(' .. now_text, '+inf')) do
    redis.call('ZADD', starts, now_text, start)
  end
  n = math.min(n, rate - redis.call('ZCARD', starts))
  if n <= 0 then
    local oldest = redis.call('ZRANGE', starts, 0, 0, 'WITHSCORES')
    until_us(tonumber(oldest[2]) + window + 1000)
    return reply('limited')
  end
end
local token = redis.call('INCR', KEYS[9])
if own == 0 or ARGV[10] ~= '' then redis.call('ZADD', KEYS[8], now_ms, worker) end

-- Whether a job that is on no record of those to come has ended: its record has a TTL then, or is gone while
-- the list of the failed has its id.
local function ended(id, ours)
  local ttl = ours and redis.call('PTTL', id) or -2
  return ttl > 0 or ttl == -2 and type(redis.pcall('ZSCORE', KEYS[10], id)) == 'string'
end

local ids = redis.call('LPOP', queued, n)
local leased = redis.call('HMGET', leases, unpack(ids))
local scores = redis.call('ZMSCORE', incomplete, unpack(ids))
local taken, ours, seen, unknown, dropped = {}, {}, {}, {}, 0
local width, sub = #prefix, string.sub
for i, id in ipairs(ids) do
  local is_ours, score = sub(id, 1, width) == prefix, scores[i]
  -- An id may be listed twice.  The listing of a job that is in flight, waits for its time or has ended is
  -- dropped; the job is not.
  if leased[i] or seen[id] or score and score ~= '0' and tonumber(score) * 1000000 > now_us
      or not score and ended(id, is_ours) then
    dropped = dropped + 1
  else
    seen[id] = true
    taken[#taken + 1] = id
    if is_ours then ours[#ours + 1] = id end
    if not score then
      unknown[#unknown + 1] = 0
      unknown[#unknown + 1] = id
    end
  end
end
depth = depth - #ids
if dropped > 0 then redis.pcall('HINCRBY', KEYS[11], 'repaired:duplicate', dropped) end
if #taken == 0 then return reply('again') end

local lease = string.format('%s:%.0f:%.0f', worker, token, now_ms)
local pairs_, started = {}, {}
for i, id in ipairs(taken) do
  pairs_[2 * i - 1] = id
  pairs_[2 * i] = lease
end
redis.pcall('HINCRBY', KEYS[11], 'started', #taken)
redis.pcall('HSET', KEYS[11], 'started_at', now_ms)
redis.call('RPUSH', active, unpack(taken))
if #unknown > 0 then redis.call('ZADD', incomplete, unpack(unknown)) end  -- off it, one that runs was aborted
redis.call('HSET', leases, unpack(pairs_))
if rate > 0 then
  for i = 1, #taken do
    started[2 * i - 1] = string.format('%.0f', now_us)
    started[2 * i] = string.format('%.0f:%d', token, i)
  end
  redis.call('ZADD', KEYS[6], unpack(started))
end
-- A process without this message of a worker's first lease would not check whether it lives.  Once a second is
-- enough: all that got the message check a while later.
if own == 0 then
  local since = now_ms - (tonumber(redis.call('HGET', looks, 'told')) or 0)
  if not (since >= 0 and since <= 1000) then
    redis.call('HSET', looks, 'told', now_ms)
    redis.pcall('PUBLISH', ARGV[7], ARGV[8] .. ' held')
  end
end

local out = reply('taken')
out[7] = lease
local left = tonumber(ARGV[9])
local bodies = #ours > 0 and redis.call('MGET', unpack(ours)) or {}
local k = 0
for i, id in ipairs(taken) do
  local body = ''
  if ours[k + 1] == id then
    k = k + 1
    body = bodies[k] or ''
  end
  left = left - #body
  out[2 * i + 6] = id
  out[2 * i + 7] = (left >= 0 or i == 1) and body
end
return out
