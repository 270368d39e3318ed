-- One window of the jobs of one queue in one state.  Changes nothing.
--
-- A window begins behind the job that the window before ended with, wherever that is now: jobs that came, went
-- or moved in between shift nothing.  If that job is gone, some may be shown again, and none is left out.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 completed  5 failed: as in take.lua and settle.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled
--       3 state: running (the longest first) | ready (in their order) | scheduled (the first that is due first)
--                | done | failed (the newest first)
--       4 jobs at most  5 bytes of the records in the reply: at least the first one is in it
--       6 id of the last job of the window before, '' for the first window  7 its place: see below
-- Reply {now in us, 1 if there are more jobs else 0, then for each job: id, mark as in job_state.lua, place, record
--        or nil, its type: see job_state.lua}
--       place: ready: position, 0 for the head; running: when it was taken, ms; else as mark
local queued, incomplete, leases = KEYS[1], KEYS[2], KEYS[3]
local prefix, last_second = 'saq:job:' .. ARGV[1] .. ':', tonumber(ARGV[2])
local limit, after, place = tonumber(ARGV[4]), ARGV[6], ARGV[7]
local NEAR = 1000  -- ids around the old position, before all are searched
local ids, marks, places = {}, {}, {}

local function add(id, mark, at)
  ids[#ids + 1], marks[#marks + 1], places[#places + 1] = id, mark, at
end

local function position_after()
  local old = tonumber(place)
  local from = math.max(0, old - NEAR)
  local near = read({}, 'LRANGE', queued, from, old)
  for i = #near, 1, -1 do
    if near[i] == after then return from + i end
  end
  local found = read(false, 'LPOS', queued, after, 'MAXLEN', old + 1)
  if found then return found + 1 end
  local state = state_of(after, prefix, incomplete, leases, KEYS[4], KEYS[5], last_second)
  -- If it was taken, so were those before it; if it was removed, the next one has its position.
  return (state == 'running' or state == 'done' or state == 'failed') and 0 or old
end

local function find_ready()
  local start = after == '' and 0 or position_after()
  for i, id in ipairs(read({}, 'LRANGE', queued, start, start + limit)) do add(id, '', start + i - 1) end
end

local function find_scheduled()
  local start = read(0, 'ZCOUNT', incomplete, '-inf', 0)
  if after ~= '' then
    local moved = read(false, 'ZSCORE', incomplete, after) ~= place
    start = math.max(
      start, moved and read(0, 'ZCOUNT', incomplete, '-inf', '(' .. place) or redis.call('ZRANK', incomplete, after) + 1
    )
  end
  local found = read({}, 'ZRANGE', incomplete, start, start + limit, 'WITHSCORES')
  for i = 1, #found, 2 do
    if tonumber(found[i + 1]) < last_second then add(found[i], found[i + 1], found[i + 1]) end
  end
end

local function find_ended(key)
  local start = 0
  if after ~= '' then
    local moved = read(false, 'ZSCORE', key, after) ~= place
    start = moved and read(0, 'ZCOUNT', key, '(' .. place, '+inf')
      or redis.call('ZCARD', key) - redis.call('ZRANK', key, after)
  end
  local found = read({}, 'ZRANGE', key, start, start + limit, 'REV', 'WITHSCORES')
  for i = 1, #found, 2 do add(found[i], found[i + 1], found[i + 1]) end
end

local function find_running()
  local all, rows = read({}, 'HGETALL', leases), {}
  for i = 1, #all, 2 do
    rows[#rows + 1] = {all[i], all[i + 1], tonumber(string.match(all[i + 1], ':(%d+)$')) or 0}
  end
  local function is_before(a, b) return a[3] < b[3] or a[3] == b[3] and a[1] < b[1] end
  table.sort(rows, is_before)
  local last = {after, '', tonumber(place)}
  for _, row in ipairs(rows) do
    if #ids > limit then break end
    if after == '' or is_before(last, row) then add(row[1], row[2], string.format('%.0f', row[3])) end
  end
end

if ARGV[3] == 'running' then
  find_running()
elseif ARGV[3] == 'ready' then
  find_ready()
elseif ARGV[3] == 'scheduled' then
  find_scheduled()
else
  find_ended(ARGV[3] == 'done' and KEYS[4] or KEYS[5])
end

local time = redis.call('TIME')
local out, left, shown = {string.format('%.0f', time[1] * 1000000 + time[2]), 0}, tonumber(ARGV[5]), 0
for i, id in ipairs(ids) do
  if i > limit then break end
  local record, kind = record_of(id, prefix)
  left = left - (record and #record or 0)
  if left < 0 and i > 1 then break end
  shown = i
  for _, value in ipairs({id, marks[i], places[i], record, kind}) do out[#out + 1] = value end
end
out[2] = #ids > shown and 1 or 0
return out
