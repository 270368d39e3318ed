-- Abort jobs, each only if it is still what was read.  A job that waits ends as aborted; for one that runs, SAQ's
-- request is written, which its worker notices.
--
-- Invariant: a job that runs keeps its lease until its worker settles it; one that waits leaves its lists in the
-- step that puts it among the ended.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 completed  5 failed  6 looks  7 outcomes  8 totals  9 history prefix:
--       as in take.lua, settle.lua and history.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled  3 failed to keep
--       4 ms that a finished job stays readable  5 ms after which the record of an ended job goes in any case
--       6 bytes from which a record is large  7 ms as 5 for a large one  8 reason  9 ms that SAQ's request lasts
--       then for each job: id, state, mark: see job_state.lua, SHA-1 of its record, its new record: that of a job
--       to be aborted if it runs, else of one that was; SAQ's abort key,
--       outcome: the member of outcomes, if it is a replay that waits, else ''
-- Reply one number a job: 1 done, 0 it is no longer what was read
local queued, incomplete, leases, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[5]
local prefix, last_second = 'saq:job:' .. ARGV[1] .. ':', tonumber(ARGV[2])
local depth = redis.call('LLEN', queued)
local in_flight = redis.call('HLEN', leases)
redis.call('ZCARD', incomplete)
redis.call('ZCARD', KEYS[4])
redis.call('ZCARD', failed)
redis.call('ZCARD', KEYS[7])
redis.call('HDEL', KEYS[6], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
keep_point(KEYS[8], KEYS[9], now_ms, depth, in_flight)

local function request_abort(id, record, abort_key)
  redis.call('SET', id, record)
  redis.call('SET', abort_key, ARGV[8], 'PX', ARGV[9])
  redis.call('ZREM', incomplete, id)
  redis.pcall('PUBLISH', id, 'aborting')
end

local function end_aborted(id, state, record, abort_key, outcome)
  if state ~= 'scheduled' then unlist(queued, id) end
  redis.call('ZREM', incomplete, id)
  redis.call('SET', id, record, 'PX', #record < tonumber(ARGV[6]) and ARGV[5] or ARGV[7])
  redis.call('ZADD', failed, now_ms, id)
  redis.call('ZREM', KEYS[4], id)
  redis.call('DEL', abort_key)
  if outcome ~= '' then redis.call('ZADD', KEYS[7], now_ms, outcome) end
  redis.pcall('PUBLISH', id, 'aborted')
end

local result, aborted = {}, 0
for i = 10, #ARGV, 7 do
  local id, expected, done = ARGV[i], ARGV[i + 1], 0
  local state, mark = state_of(id, prefix, incomplete, leases, KEYS[4], failed, last_second)
  local record = record_of(id, prefix)
  local waits = state == 'ready' or state == 'scheduled' or state == 'unlisted'
  if state == expected and mark == ARGV[i + 2] and record and redis.sha1hex(record) == ARGV[i + 3]
      and (waits or state == 'running') then
    if waits then
      end_aborted(id, state, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
      aborted = aborted + 1
    else
      request_abort(id, ARGV[i + 4], ARGV[i + 5])
    end
    done = 1
  end
  result[#result + 1] = done
end

if aborted > 0 then
  redis.pcall('HINCRBY', KEYS[8], 'aborted', aborted)
  redis.pcall('HSET', KEYS[8], 'ended_at', string.format('%.0f', now_ms))
  local over = redis.call('ZCARD', failed) - tonumber(ARGV[3])
  local out = over > 0 and redis.call('ZPOPMIN', failed, over) or {}
  for i = 1, #out, 2 do
    local id = out[i]
    if string.sub(id, 1, #prefix) == prefix and not redis.call('ZSCORE', incomplete, id) then
      redis.call('PEXPIRE', id, ARGV[4])
    end
  end
end
return result
