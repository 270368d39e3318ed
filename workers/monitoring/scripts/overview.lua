-- All that the screens show of one queue, at one moment.  It changes nothing, but keeps a point of the history if
-- it is asked to.  If another program made a key of another type, it counts as empty, and its name is in the reply.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 starts  5 pause  6 totals  7 history prefix  8 looks  9 turns:
--       as in take.lua, settle.lua and lost.lua
-- ARGV  1 rate: window in us (0: none)  2 1: keep a point while the queue holds anything
--       3 ready jobs that are not too many  then lowest and highest score of the points to read, for each of
--       4, 5 every 10 s  6, 7 every minute  8, 9 every hour
-- Reply {now in us, depth, incomplete, leases as a flat list, starts in the window, oldest start in us or '',
--        newest start before the window in us or '', head: body of the job there or '',
--        body of the first job that is one too many or '', pause as a flat list, totals as a flat list,
--        turns as a flat list, checks: since and last of looks while there are leases, when it was resumed or false,
--        broken keys: names of those of another type, then three lists of points}; overview.py parses it
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local broken = {}
local function read(otherwise, command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  broken[#broken + 1] = key
  return otherwise
end

local starts, oldest, before = 0, '', ''
if ARGV[1] ~= '0' then
  local from = string.format('%.0f', now_us - tonumber(ARGV[1]))
  starts = read(0, 'ZCOUNT', KEYS[4], '(' .. from, '+inf')
  oldest = read({}, 'ZRANGEBYSCORE', KEYS[4], '(' .. from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
  before = read({}, 'ZREVRANGEBYSCORE', KEYS[4], from, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
end
local depth = read(0, 'LLEN', KEYS[1])
local prefix = 'saq:job:' .. string.match(KEYS[1], '^saq:(.*):queued$') .. ':'
local function ready_job(index)
  local id = depth > index and redis.call('LINDEX', KEYS[1], index)
  if not id or string.sub(id, 1, #prefix) ~= prefix then return '' end
  local body = redis.pcall('GET', id)  -- of any type, if a foreign producer made it
  return type(body) == 'string' and body or ''
end
local leases = read({}, 'HGETALL', KEYS[3])
if ARGV[2] == '1' and depth + #leases > 0 then keep_point(KEYS[6], KEYS[7], now_ms, depth, #leases / 2) end
local out = {
  string.format('%.0f', now_us), depth, read(0, 'ZCARD', KEYS[2]), leases,
  starts, oldest, before, ready_job(0), ready_job(tonumber(ARGV[3])),
  read({}, 'HGETALL', KEYS[5]), read({}, 'HGETALL', KEYS[6]), read({}, 'HGETALL', KEYS[9]),
  #leases > 0 and read({false, false}, 'HMGET', KEYS[8], 'since', 'last') or {false, false},
  read(false, 'HGET', KEYS[8], 'resumed'), broken,
}
for i, seconds in ipairs({10, 60, 3600}) do
  out[#out + 1] = read({}, 'ZRANGEBYSCORE', KEYS[7] .. seconds, ARGV[2 * i + 2], ARGV[2 * i + 3])
end
return out
