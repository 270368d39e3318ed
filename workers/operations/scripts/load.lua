-- How much work a queue has, at one moment.  Changes nothing.  A key of another type counts as empty.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 pause: as in take.lua
-- Reply {jobs in flight, jobs ready, jobs due: their time has come and no process has moved them yet, 1 if paused}
local function count(command, ...)
  local reply = redis.pcall(command, ...)
  return type(reply) == 'number' and reply or 0
end

local time = redis.call('TIME')
local now = string.format('%.0f.%06d', time[1], time[2])
return {
  count('HLEN', KEYS[3]), count('LLEN', KEYS[1]), count('ZCOUNT', KEYS[2], '(0', now), count('EXISTS', KEYS[4]),
}
