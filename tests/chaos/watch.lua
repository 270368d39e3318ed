-- Returns the problems of one queue at this moment: jobs on no list or on two, limits that are passed.
--
-- KEYS  1 queued  2 active  3 incomplete  4 leases  5 completed  6 failed: as in settle.lua
--       7 acknowledged  set  ids of jobs whose enqueue was acknowledged
-- ARGV  1 concurrency  2 processes at most  then ids that were acknowledged since the last look
-- Reply one line a problem, 20 at the most.
redis.call('SREM', KEYS[7], '')  -- see take.lua: works on a server that is out of memory
for i = 3, #ARGV do redis.call('SADD', KEYS[7], ARGV[i]) end
local problems = {}
local function problem(text)
  if #problems < 20 then problems[#problems + 1] = text end
end
local function counted(list)
  local counts = {}
  for _, id in ipairs(list) do counts[id] = (counts[id] or 0) + 1 end
  return counts
end
local function paired(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local queued = counted(redis.call('LRANGE', KEYS[1], 0, -1))
local active = counted(redis.call('LRANGE', KEYS[2], 0, -1))
local incomplete = paired(redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'))
local leases = paired(redis.call('HGETALL', KEYS[4]))

local ids = {}
for _, map in ipairs({queued, active, incomplete, leases}) do
  for id in pairs(map) do ids[id] = true end
end
for id in pairs(ids) do
  local q, a, held, score = queued[id] or 0, active[id] or 0, leases[id] ~= nil, incomplete[id]
  local ready = q == 1 and a == 0 and not held
  local running = q == 0 and a == 1 and held
  local waits = q == 0 and a == 0 and not held
  local right
  if not score then right = false
  elseif tonumber(score) == 0 then right = ready or running
  else right = waits end
  if not right then
    problem(string.format('%s: queued %d, active %d, leased %s, incomplete %s', id, q, a, tostring(held), score or '-'))
  end
end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[7])) do
  -- One that has ended is among the newest, or its record passes away.
  if not incomplete[id] and not redis.call('ZSCORE', KEYS[5], id) and not redis.call('ZSCORE', KEYS[6], id)
    and redis.call('PTTL', id) == -1 then
    problem(id .. ': has not ended, and is on no list')
  end
end

local held, processes, holds = 0, 0, {}
for _, lease in pairs(leases) do
  local worker = string.match(lease, '^[^:]+')
  held = held + 1
  if not holds[worker] then processes = processes + 1 end
  holds[worker] = true
end
if held > tonumber(ARGV[1]) then problem(held .. ' leases') end
if processes > tonumber(ARGV[2]) then problem(processes .. ' processes hold jobs') end
return problems
