-- Put jobs that wait at the head of their queue, each only if it is still what was read.
--
-- Invariant: a job that has been taken, has ended or has moved stays where it is; no other leaves its lists for a
-- moment.  Its attempts stay what they are.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 completed  5 failed  6 looks: as in take.lua and settle.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled  3 channel that wakes the queue's workers
--       then for each job, the last one comes to the head: id, state, mark: see job_state.lua
-- Reply one number a job: 1 done, 0 it is no longer what was read
local queued, incomplete = KEYS[1], KEYS[2]
local prefix = 'saq:job:' .. ARGV[1] .. ':'
redis.call('LLEN', queued)
redis.call('ZCARD', incomplete)
redis.call('HDEL', KEYS[6], '')  -- see take.lua: works on a server that is out of memory

local WAITS = {ready = true, scheduled = true, unlisted = true}
local result = {}
for i = 4, #ARGV, 3 do
  local id, done = ARGV[i], 0
  local state, mark = state_of(id, prefix, incomplete, KEYS[3], KEYS[4], KEYS[5], tonumber(ARGV[2]))
  if state == ARGV[i + 1] and mark == ARGV[i + 2] and WAITS[state] then
    if state ~= 'scheduled' then unlist(queued, id) end
    redis.call('ZADD', incomplete, 0, id)
    redis.call('LPUSH', queued, id)
    done = 1
  end
  result[#result + 1] = done
end
redis.pcall('PUBLISH', ARGV[3], ARGV[1])
return result
