-- All that the screens show of one queue, at one moment.  Changes nothing.  If another program made a key of
-- another type, it counts as empty, and its name is in the reply.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 starts  5 pause  6 totals  7 minute prefix: as in take.lua, settle.lua
--       8 looks: as in lost.lua
-- ARGV  1 rate: window in us (0: none)  then the numbers of the minutes (Unix time) to read
-- Reply {now in us, depth, incomplete, leases as a flat list, starts in the window, oldest start in us or '',
--        head: body of the job there or '', pause as a flat list, totals as a flat list,
--        the current minute as a flat list, checks: since and last of looks while there are leases,
--        broken keys: names of those of another type,
--        then each of the minutes}; overview.py parses it
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local broken = {}
local function read(otherwise, command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  broken[#broken + 1] = key
  return otherwise
end

local starts, oldest = 0, ''
if ARGV[1] ~= '0' then
  local from = '(' .. string.format('%.0f', now_us - tonumber(ARGV[1]))
  starts = read(0, 'ZCOUNT', KEYS[4], from, '+inf')
  oldest = read({}, 'ZRANGEBYSCORE', KEYS[4], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
end
local depth, body = read(0, 'LLEN', KEYS[1]), ''
local prefix = 'saq:job:' .. string.match(KEYS[1], '^saq:(.*):queued$') .. ':'
local head = depth > 0 and redis.call('LINDEX', KEYS[1], 0)
if head and string.sub(head, 1, #prefix) == prefix then
  body = redis.pcall('GET', head)  -- of any type, where a foreign producer made it
end
local leases = read({}, 'HGETALL', KEYS[3])
local out = {
  string.format('%.0f', now_us), depth, read(0, 'ZCARD', KEYS[2]), leases,
  starts, oldest, type(body) == 'string' and body or '', read({}, 'HGETALL', KEYS[5]), read({}, 'HGETALL', KEYS[6]),
  read({}, 'HGETALL', string.format('%s%.0f', KEYS[7], math.floor(time[1] / 60))),
  #leases > 0 and read({false, false}, 'HMGET', KEYS[8], 'since', 'last') or {false, false},
  broken,
}
for i = 2, #ARGV do out[#out + 1] = read({}, 'HGETALL', KEYS[7] .. ARGV[i]) end
return out
