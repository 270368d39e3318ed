-- Take up to n jobs of one queue, within pause, processes, concurrency and rate.
--
-- Invariant: a job is on exactly one of queued, active or (by its time) incomplete before and after;
-- a job on active has a lease, and there are never more leases than the concurrency.
--
-- KEYS  1 queued      list    job ids that are ready, head first (SAQ's)
--       2 active      list    job ids in flight (SAQ's)
--       3 incomplete  zset    job id -> 0, or the Unix second at which it becomes ready (SAQ's)
--       4 leases      hash    job id -> "worker:token:taken_ms"
--       5 holders     hash    worker -> number of its leases
--       6 starts      zset    start -> server time in microseconds, for the rate limit
--       7 pause       hash    by, reason, since; absent while the queue runs
--       8 beats       zset    worker -> server time of its last heartbeat, ms
--       9 token       string  counter that makes each lease unique
--       10 looks      hash    told: server time at which all were told that somebody began to hold jobs, ms
-- ARGV  1 worker  2 n  3 concurrency  4 processes at most  5 rate: starts (0: none)  6 rate: window, us
--       7 channel that wakes the queue's workers  8 queue name  9 bytes of the bodies in the reply
-- Reply {state, ms until something is known to change (-1: nothing known), leases of others, leases of its own
--        before this take, now_ms, depth, lease, id, body, id, body, ...}; body is '' where the job's data is gone,
--        nil where it would make the reply too large: the first body is in it in any case.
local queued, active, incomplete, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local worker, n, concurrency = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local rate, window = tonumber(ARGV[5]), tonumber(ARGV[6])
local MOST = 1000  -- unpack takes some thousand values, and fails with the jobs off their list

-- A write that adds nothing comes first: a server that is out of memory then lets the rest of the script
-- pass, and jobs can end and free memory.
redis.call('HDEL', leases, '')

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)

local due = redis.call('ZRANGEBYSCORE', incomplete, '(0', now_us / 1000000, 'LIMIT', 0, 1000)
for _, id in ipairs(due) do
  redis.call('ZADD', incomplete, 0, id)
  redis.call('RPUSH', queued, id)
end

local wait = -1
local function until_us(at)
  local ms = math.max(0, math.ceil((at - now_us) / 1000))
  if wait < 0 or ms < wait then wait = ms end
end
local upcoming = redis.call('ZRANGEBYSCORE', incomplete, '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if upcoming[2] then until_us(tonumber(upcoming[2]) * 1000000) end

local held = redis.call('HLEN', leases)
local own = tonumber(redis.call('HGET', KEYS[5], worker) or 0)
local depth = redis.call('LLEN', queued)

local function reply(state)
  return {state, wait, held - own, own, now_ms, depth}
end

if redis.call('EXISTS', KEYS[7]) == 1 then return reply('paused') end
if n <= 0 then return reply('busy') end
if depth == 0 then return reply('empty') end
if own == 0 and redis.call('HLEN', KEYS[5]) >= tonumber(ARGV[4]) then return reply('standby') end
n = math.min(n, concurrency - held, MOST)
if n <= 0 then return reply('full') end
if rate > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[6], 0, '(' .. string.format('%.0f', now_us - window))
  n = math.min(n, rate - redis.call('ZCARD', KEYS[6]))
  if n <= 0 then
    local oldest = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
    until_us(tonumber(oldest[2]) + window + 1000)
    return reply('limited')
  end
end

local ids = redis.call('LPOP', queued, n)
local leased = redis.call('HMGET', leases, unpack(ids))
local taken, seen = {}, {}
for i, id in ipairs(ids) do
  -- An id that is in flight already was listed twice; the second listing is dropped, the job is not.
  if not leased[i] and not seen[id] then
    seen[id] = true
    taken[#taken + 1] = id
  end
end
if #taken == 0 then return reply('again') end

local token = redis.call('INCR', KEYS[9])
local lease = string.format('%s:%.0f:%.0f', worker, token, now_ms)
local pairs_, started, waiting = {}, {}, {}
for i, id in ipairs(taken) do
  pairs_[2 * i - 1] = id
  pairs_[2 * i] = lease
  waiting[2 * i - 1] = 0
  waiting[2 * i] = id
  started[2 * i - 1] = string.format('%.0f', now_us)
  started[2 * i] = string.format('%.0f:%d', token, i)
end
redis.call('RPUSH', active, unpack(taken))
redis.call('ZADD', incomplete, 'NX', unpack(waiting))  -- off it, a running job is one that was aborted
redis.call('HSET', leases, unpack(pairs_))
redis.call('HINCRBY', KEYS[5], worker, #taken)
redis.call('ZADD', KEYS[8], now_ms, worker)
-- Whoever does not see a worker's first lease would not look whether it lives.  Once a second is enough: all
-- who were told look a while later.
if own == 0 and now_ms - tonumber(redis.call('HGET', KEYS[10], 'told') or 0) > 1000 then
  redis.call('HSET', KEYS[10], 'told', now_ms)
  redis.call('PUBLISH', ARGV[7], ARGV[8] .. ' held')
end
if rate > 0 then redis.call('ZADD', KEYS[6], unpack(started)) end

depth = depth - #ids
local out = reply('taken')
out[7] = lease
local left = tonumber(ARGV[9])
for i, body in ipairs(redis.call('MGET', unpack(taken))) do
  body = body or ''
  left = left - #body
  out[#out + 1] = taken[i]
  out[#out + 1] = (left >= 0 or i == 1) and body
end
return out
