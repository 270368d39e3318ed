-- The leases of one queue whose holders are dead: their heartbeat is missing or too old.  Changes nothing.
--
-- KEYS  1 leases  2 beats: as in take.lua
-- ARGV  1 ms without a heartbeat after which a worker is dead
-- Reply {leases in all, id, lease, body, id, lease, body, ...}; body is '' where the job's data is gone.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local dead = {}
local all = redis.call('HGETALL', KEYS[1])
local out = {#all / 2}
for i = 1, #all, 2 do
  local worker = string.match(all[i + 1], '^[^:]+')
  if dead[worker] == nil then
    local beat = redis.call('ZSCORE', KEYS[2], worker)
    dead[worker] = not beat or now_ms - tonumber(beat) > tonumber(ARGV[1])
  end
  if dead[worker] then
    out[#out + 1] = all[i]
    out[#out + 1] = all[i + 1]
    out[#out + 1] = redis.call('GET', all[i]) or ''
  end
end
return out
