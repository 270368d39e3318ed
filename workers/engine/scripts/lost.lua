-- The leases of one queue whose holders are dead: their heartbeat is too old.
--
-- Invariant: no worker is declared dead unless processes have checked, without a gap, for as long as a heartbeat
-- may be old.  An outage of the server, a machine that slept, and a queue that no process checked leave a gap:
-- then the living have the time to send heartbeats first.  A time ahead of the clock, which was set back, counts
-- as this moment.
--
-- KEYS  1 leases  2 beats: as in take.lua
--       3 looks   hash  since, last: server time of the first and the last check without a gap, ms
-- ARGV  1 ms without a heartbeat after which a worker is dead  2 ms between two checks that are a gap
--       3 bytes of the bodies in the reply  4 queue name
-- Reply {leases in all, id, lease, body, id, lease, body, ...}; body is '' if the job's data is gone, nil
--       if it would make the reply too large.
redis.call('HDEL', KEYS[3], '')  -- see take.lua: works on a server that is out of memory
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local dead_after = tonumber(ARGV[1])
local prefix = 'saq:job:' .. ARGV[4] .. ':'

local look = redis.call('HMGET', KEYS[3], 'since', 'last')
local since, last = tonumber(look[1]) or now_ms, tonumber(look[2]) or 0
-- Written so that a NaN, which another program may have stored, counts as a gap.
if not (now_ms - last <= tonumber(ARGV[2]) and last <= now_ms and since <= now_ms) then since = now_ms end
redis.call('HSET', KEYS[3], 'since', since, 'last', now_ms)

local all = redis.call('HGETALL', KEYS[1])
local out = {#all / 2}
if now_ms - since < dead_after then return out end
local dead, left = {}, tonumber(ARGV[3])
for i = 1, #all, 2 do
  local worker = string.match(all[i + 1], '^[^:]*')
  if dead[worker] == nil then
    local beat = tonumber(redis.call('ZSCORE', KEYS[2], worker))
    -- A beat that is missing may have been removed by another program: its worker gets the time to beat again.
    if not beat or beat > now_ms then
      beat = now_ms
      redis.call('ZADD', KEYS[2], beat, worker)
    end
    dead[worker] = now_ms - beat > dead_after
  end
  if dead[worker] then
    out[#out + 1] = all[i]
    out[#out + 1] = all[i + 1]
    local ours = string.sub(all[i], 1, #prefix) == prefix
    local body = ours and redis.pcall('GET', all[i])  -- of any type, if a foreign producer made it
    body = type(body) == 'string' and body or ''
    left = left - #body
    out[#out + 1] = left >= 0 and body
  end
end
return out
