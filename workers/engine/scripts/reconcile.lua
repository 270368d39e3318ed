-- Check the keys of one queue, repair what one step can, and count what has to be compared job by job.
--
-- Invariant: afterwards each key has its type and no TTL, each lease names a worker, an id on active has a lease,
-- and nothing that a key held is lost: a key of another type is kept aside for a week, an id without a lease is
-- ready again.  Whether that id is a job that is to run is for take.lua and the worker that takes it.
--
-- KEYS  1 looks  2 queued  3 active  4 incomplete  5 leases  6 token  7 totals  8 letters  9 letter
--       10 the new name of a key that is kept aside, a prefix  11 turns  then all other keys that are checked
-- ARGV  1 ms between two checks, by any process  2 1: check now, whenever the last check was
--       3 greatest Unix second at which a job can be scheduled
--       then the type of each key: of 1 to 9, and of those after 10
-- Reply {} if no check is due; else {1 if the clock was set back since the last check, ready, leases,
--        ids on incomplete that are ready or have no possible time, kinds of repair and their numbers as a flat list}
local looks, queued, active, incomplete, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ASIDE_SECONDS, MOST = 604800, 10000
local repairs = {}
local function repaired(kind, number)
  if number > 0 then repairs[kind] = (repairs[kind] or 0) + number end
end

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)

-- Move a key of another type out of the way.
local function check_type(key, expected)
  local found = redis.call('TYPE', key).ok
  if found == 'none' or found == expected then return end
  local aside = string.format('%s%s:%.0f', KEYS[10], string.match(key, '[^:]*$'), now_us)
  redis.call('RENAME', key, aside)
  redis.call('EXPIRE', aside, ASIDE_SECONDS)
  repaired('type', 1)
end

check_type(looks, ARGV[4])
local last = tonumber(redis.call('HGET', looks, 'reconciled')) or 0
local set_back = last > now_ms
if ARGV[2] == '0' and not set_back and now_ms - last < tonumber(ARGV[1]) then return {} end
redis.call('HDEL', looks, '')  -- see take.lua: works on a server that is out of memory
redis.call('HSET', looks, 'reconciled', now_ms)

for i = 2, 9 do check_type(KEYS[i], ARGV[3 + i]) end
for i = 11, #KEYS do check_type(KEYS[i], ARGV[2 + i]) end
for _, key in ipairs({looks, queued, active, incomplete, leases, KEYS[6], KEYS[8], KEYS[9]}) do
  repaired('ttl', redis.call('PERSIST', key))
end

-- A counter that INCR refuses, or whose next values would not differ as Lua writes them.
local token = redis.call('GET', KEYS[6])
if token and not (string.match(token, '^%d+$') and tonumber(token) < 2 ^ 52) then
  redis.call('SET', KEYS[6], string.format('%.0f', now_us))
  repaired('token', 1)
end

local all, leased, loose = redis.call('HGETALL', leases), {}, {}
for i = 1, #all, 2 do
  if string.match(all[i + 1], '^[^:]+:%d+:%d+$') then
    leased[all[i]] = true
  else
    redis.call('HDEL', leases, all[i])
    loose[#loose + 1] = all[i]
  end
end
repaired('lease', #loose)

local ids, standing, listed = redis.call('LRANGE', active, 0, MOST - 1), {}, {}
for _, id in ipairs(ids) do
  if leased[id] and not listed[id] then
    standing[#standing + 1] = id
  elseif not leased[id] and not listed[id] then
    loose[#loose + 1] = id
  end
  listed[id] = true
end
if #standing < #ids then
  redis.call('LTRIM', active, #ids, -1)
  for _, id in ipairs(standing) do redis.call('LPUSH', active, id) end
  repaired('active', #ids - #standing)
end
for _, id in ipairs(loose) do redis.call('LPUSH', queued, id) end

if redis.call('HLEN', KEYS[9]) > redis.call('ZCARD', KEYS[8]) then
  local uids = redis.call('HKEYS', KEYS[9])
  for i = 1, math.min(#uids, MOST) do
    repaired('letter', redis.call('ZADD', KEYS[8], 'NX', now_ms, uids[i]))
  end
end

local turns = redis.call('HGETALL', KEYS[11])
for i = 1, #turns, 2 do
  local ago = now_ms - (tonumber(turns[i + 1]) or 0)
  if not (ago >= 0 and ago < 86400000) then redis.call('HDEL', KEYS[11], turns[i]) end
end

local flat = {}
for kind, number in pairs(repairs) do
  flat[#flat + 1] = kind
  flat[#flat + 1] = number
  redis.pcall('HINCRBY', KEYS[7], 'repaired:' .. kind, number)
end
local ready = redis.call('ZCOUNT', incomplete, '-inf', 0) + redis.call('ZCOUNT', incomplete, ARGV[3], '+inf')
return {set_back and 1 or 0, redis.call('LLEN', queued), redis.call('HLEN', leases), ready, flat}
