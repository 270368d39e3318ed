-- Remove jobs that wait or have ended, each only if it is still what was read.
--
-- Invariant: a job that runs is not removed, and a key that an id of another queue names is never changed.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 completed  5 failed  6 looks: as in take.lua and settle.lua
--       7 outcomes: as in settle.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled
--       then for each job: id, state, mark: see job_state.lua, SHA-1 of its record ('': it has none),
--       outcome: the member of outcomes, if it is a replay that has not ended, else ''
-- Reply one number a job: 1 done, 0 it is no longer what was read
local queued, incomplete = KEYS[1], KEYS[2]
local prefix = 'saq:job:' .. ARGV[1] .. ':'
redis.call('LLEN', queued)
redis.call('ZCARD', incomplete)
redis.call('ZCARD', KEYS[4])
redis.call('ZCARD', KEYS[5])
redis.call('ZCARD', KEYS[7])
redis.call('HDEL', KEYS[6], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function is_as_read(id, state, mark, digest)
  local found, found_mark = state_of(id, prefix, incomplete, KEYS[3], KEYS[4], KEYS[5], tonumber(ARGV[2]))
  if found ~= state or found_mark ~= mark or state == 'running' then return false end
  local record, kind = record_of(id, prefix)
  if kind == 'none' then return digest == '' end
  return record and redis.sha1hex(record) == digest
end

local result = {}
for i = 3, #ARGV, 5 do
  local id, state, outcome, done = ARGV[i], ARGV[i + 1], ARGV[i + 4], 0
  if is_as_read(id, state, ARGV[i + 2], ARGV[i + 3]) then
    -- All of its listings: a worker that takes one of a job without a record buries it.
    if state == 'ready' or state == 'unlisted' or state == 'gone' then redis.call('LREM', queued, 0, id) end
    redis.call('ZREM', incomplete, id)
    redis.call('ZREM', KEYS[4], id)
    redis.call('ZREM', KEYS[5], id)
    redis.call('DEL', id)
    if outcome ~= '' then redis.call('ZADD', KEYS[7], now_ms, outcome) end
    redis.pcall('PUBLISH', id, 'aborted')  -- a producer that waits for it waits no longer
    done = 1
  end
  result[#result + 1] = done
end
return result
