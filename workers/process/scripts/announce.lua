-- List a worker process among those of the cluster, for our screens and for SAQ's.
--
-- Invariant: an instant that lies ahead of the server's clock counts as this one, so that it expires.
--
-- KEYS  1 workers  hash  worker -> JSON of its presence; "at:" .. worker -> server time of that, ms, below
--                  0 when it was declared dead then; "blocked:" .. worker -> as in blocked.lua;
--                  "since:" .. worker -> server time of its first presence, ms; "vitals:" .. worker -> as in
--                  beat.lua; "drain:" .. worker -> as in request_drain.lua; "asked:" .. worker -> when a sign of
--                  life was asked for, ms
--       2 beats    zset  as in take.lua
--       3 letters  4 outcomes  zsets  as in settle.lua
--       then for each queue: SAQ's stats zset and SAQ's worker_info key of this worker
-- ARGV  1 worker  2 JSON of it, '' to take it off the list  3 ms for which it counts as present
--       4 SAQ's worker info, JSON  5 ms after which a silent worker is forgotten; 0: not now
-- Reply {number of letters and outcomes that wait for the database, 1: the server is full, 1: others had declared
--       it dead, request to drain or to undo that, or nil}.  A request is read with HMGET where HSETNX kept "since:" before: reading it costs
--       no command.
-- A process that publishes its presence has a loop that runs.
-- The first command that writes is one that a full server refuses, to find that out.  Then a deletion: see take.lua.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local entry = {KEYS[1], ARGV[1], ARGV[2], 'at:' .. ARGV[1], now_ms}
local names = {'since:' .. ARGV[1], 'drain:' .. ARGV[1], 'blocked:' .. ARGV[1], 'at:' .. ARGV[1]}
local known = redis.call('HMGET', KEYS[1], unpack(names))
local reply = ARGV[2] ~= '' and redis.pcall('HSET', unpack(entry))
local refused = type(reply) == 'table' and reply.err
local returned = (tonumber(known[4]) or 0) < 0
if refused or known[3] then redis.call('HDEL', KEYS[1], 'blocked:' .. ARGV[1]) end
local present, forget = tonumber(ARGV[3]), tonumber(ARGV[5])
local request = false
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1], 'at:' .. ARGV[1], 'since:' .. ARGV[1], 'vitals:' .. ARGV[1], 'drain:' .. ARGV[1], 'asked:' .. ARGV[1])
  for i = 5, #KEYS, 2 do
    redis.call('ZREM', KEYS[i], KEYS[i + 1])
    redis.call('DEL', KEYS[i + 1])
  end
else
  if refused then redis.call('HSET', unpack(entry)) end
  if not known[1] then redis.call('HSET', KEYS[1], 'since:' .. ARGV[1], now_ms) end
  local expires, body = string.match(known[2] or '', '^(%d+) (.*)$')
  if expires and tonumber(expires) > now_ms then request = body end
  for i = 5, #KEYS, 2 do
    redis.call('SET', KEYS[i + 1], ARGV[4], 'PX', present)
    redis.call('ZADD', KEYS[i], now_ms + present, KEYS[i + 1])
  end
end
if forget > 0 then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 3) == 'at:' then
      local ago = now_ms - math.abs(tonumber(all[i + 1]) or 0)
      local worker = string.sub(all[i], 4)
      if ago < 0 then redis.call('HSET', KEYS[1], all[i], now_ms) end
      if not (ago <= forget) then redis.call('HDEL', KEYS[1], all[i], worker, 'blocked:' .. worker, 'since:' .. worker, 'vitals:' .. worker, 'drain:' .. worker, 'asked:' .. worker) end
    end
  end
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now_ms), '+inf')) do
    redis.call('ZADD', KEYS[2], now_ms, worker)
  end
  for i = 5, #KEYS, 2 do redis.call('ZREMRANGEBYSCORE', KEYS[i], 0, now_ms) end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now_ms - forget)
end
return {redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4]), refused and 1 or 0, returned and 1 or 0, request}
