-- A function of the scripts that change or read a queue: history.py has their text begin with this one.
--
-- keep_point: keep what the queue's counters are now, unless that was done in the same ten seconds.  It is called
-- before the counters change, so all that has happened between two points is the difference of their counters.
--
-- totals   hash    counter -> how often since ever; point: the number of the ten seconds of the newest point
-- history  prefix  of the zsets of points, by the seconds between them: point -> server time, ms
-- A point is the JSON [ms, depth, in flight, counter, number, counter, number, ...].
local function keep_point(totals, history, now_ms, depth, in_flight)
  local STEPS = {{10, 3900}, {60, 90000}, {3600, 694800}}  -- seconds between points, and for which each is kept
  local last = redis.pcall('HGET', totals, 'point')
  local step = math.floor(now_ms / 10000)
  if type(last) == 'table' or tonumber(last) == step then return end
  last = tonumber(last) or -1
  local all, parts = redis.call('HGETALL', totals), {}
  for i = 1, #all, 2 do
    -- Another program may have written anything.
    if #all[i] <= 16 and string.match(all[i], '^[a-z][a-z_]*%d*$') and string.match(all[i + 1], '^%d+$')
        and #all[i + 1] <= 16 and all[i] ~= 'point' then
      parts[#parts + 1] = string.format(',"%s",%s', all[i], all[i + 1])
    end
  end
  local point = string.format('[%.0f,%d,%d%s]', now_ms, depth, in_flight, table.concat(parts))
  redis.pcall('HSET', totals, 'point', step)
  for _, every in ipairs(STEPS) do
    local seconds, kept = every[1], every[2]
    if math.floor(last * 10 / seconds) ~= math.floor(step * 10 / seconds) then
      local key = history .. seconds
      redis.pcall('ZREMRANGEBYSCORE', key, '-inf', now_ms - kept * 1000)
      redis.pcall('ZREMRANGEBYSCORE', key, '(' .. string.format('%.0f', now_ms), '+inf')  -- the clock was set back
      redis.pcall('ZADD', key, now_ms, point)
      redis.pcall('EXPIRE', key, kept)
    end
  end
end

