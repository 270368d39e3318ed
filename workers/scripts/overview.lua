-- All that the screens show of one queue, at one moment.  Changes nothing.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 starts  5 pause  6 totals  7 minute prefix: as in take.lua, settle.lua
--       8 looks: as in lost.lua
-- ARGV  1 rate: window in us (0: none)  then the minutes (Unix minute numbers) whose figures are wanted
-- Reply {now in us, depth, incomplete, leases as a flat list, starts in the window, oldest start in us or '',
--        body of the job at the head or '', pause as a flat list, totals as a flat list,
--        the current minute as a flat list, looks: since and last while there are leases,
--        then each minute that was asked for}
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local starts, oldest = 0, ''
if ARGV[1] ~= '0' then
  local from = '(' .. string.format('%.0f', now_us - tonumber(ARGV[1]))
  starts = redis.call('ZCOUNT', KEYS[4], from, '+inf')
  oldest = redis.call('ZRANGEBYSCORE', KEYS[4], from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
end
local head = redis.call('LINDEX', KEYS[1], 0)
local body = head and redis.pcall('GET', head)  -- of any type, where a foreign producer made it
local leases = redis.call('HGETALL', KEYS[3])
local out = {
  string.format('%.0f', now_us), redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), leases,
  starts, oldest, type(body) == 'string' and body or '', redis.call('HGETALL', KEYS[5]), redis.call('HGETALL', KEYS[6]),
  redis.call('HGETALL', string.format('%s%.0f', KEYS[7], math.floor(time[1] / 60))),
  #leases > 0 and redis.call('HMGET', KEYS[8], 'since', 'last') or {false, false},
}
for i = 2, #ARGV do out[#out + 1] = redis.call('HGETALL', KEYS[7] .. ARGV[i]) end
return out
