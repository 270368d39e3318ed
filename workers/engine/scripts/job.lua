-- All that is known of some jobs of one queue, at one moment.  Changes nothing.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 completed  5 failed: as in take.lua and settle.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled
--       3 ids from the head of queued among which positions are searched
--       4 bytes of the records in the reply: at least the first one is in it
--       then the keys of the jobs; one may be a foreign id that the queue lists
-- Reply {now in us, then for each job: id, state, mark: see job_state.lua, position on queued, 0 for the head
--        (-1: not among those searched), record or nil, its type: see job_state.lua, 1 if SAQ was asked to abort it,
--        else 0}; as many jobs as fit
local queued = KEYS[1]
local prefix, last_second = 'saq:job:' .. ARGV[1] .. ':', tonumber(ARGV[2])
local time = redis.call('TIME')
local out = {string.format('%.0f', time[1] * 1000000 + time[2])}

local function locate(id)
  local state, mark = state_of(id, prefix, KEYS[2], KEYS[3], KEYS[4], KEYS[5], last_second)
  local position = -1
  if state == 'ready' or state == 'unlisted' or state == 'gone' then
    position = read(false, 'LPOS', queued, id, 'MAXLEN', ARGV[3]) or -1
  end
  return state, mark, position
end

local left = tonumber(ARGV[4])
for i = 5, #ARGV do
  local id = prefix .. ARGV[i]
  local state, mark, position = locate(id)
  if state == 'gone' and position < 0 then
    local foreign, foreign_mark, foreign_position = locate(ARGV[i])
    if foreign ~= 'gone' or foreign_position >= 0 then
      id, state, mark, position = ARGV[i], foreign, foreign_mark, foreign_position
    end
  end
  local record, kind = record_of(id, prefix)
  left = left - (record and #record or 0)
  if left < 0 and i > 5 then break end
  local aborting = redis.call('EXISTS', 'saq:abort:' .. ARGV[i])
  for _, value in ipairs({id, state, mark, position, record, kind, aborting}) do out[#out + 1] = value end
end
return out
