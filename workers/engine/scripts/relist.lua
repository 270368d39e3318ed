-- Put ids of a queue where they belong, each only if that is still true.
--
-- Invariant: an id that is in flight, or that another step has moved since it was found, stays where it is.  An id
-- that comes to be listed twice does no harm: take.lua drops the second listing.
--
-- KEYS  1 queued  2 incomplete  3 leases  4 totals: as in take.lua
-- ARGV  1 queue name  2 greatest Unix second at which a job can be scheduled  3 channel that wakes the workers
--       then for each id: id, what is to be done, Unix second (0: now)
--       unlisted   on incomplete as ready, and on no list: ready
--       unindexed  ready or in flight, and not on incomplete, though its record has not ended: on incomplete
--       unknown    on no key of the queue, though its record has not ended: ready, or scheduled for its time
--       late       a retry, scheduled later than it can be: scheduled for the time given
-- Reply what was done and how often, as a flat list
local queued, incomplete, leases = KEYS[1], KEYS[2], KEYS[3]
local prefix, last = 'saq:job:' .. ARGV[1] .. ':', tonumber(ARGV[2])
redis.call('LLEN', queued)
redis.call('ZCARD', incomplete)

-- A job that has not ended has a record without a TTL.
local function is_pending(id)
  return string.sub(id, 1, #prefix) == prefix and redis.call('PTTL', id) == -1
end

local searched = #ARGV <= 3 + 3 * 20 and 0 or 1000  -- ids of queued, from its head; 0: all, for a few findings
local counts, flat = {}, {}
for i = 4, #ARGV, 3 do
  local id, kind, at = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local score = tonumber(redis.call('ZSCORE', incomplete, id))
  local idle = redis.call('HEXISTS', leases, id) == 0
  local list, add
  if kind == 'unlisted' then
    list = idle and score and (score <= 0 or score >= last)
      and not redis.call('LPOS', queued, id, 'MAXLEN', searched)  -- returned since
    add = list and score ~= 0
  elseif kind == 'unindexed' then
    add = not score and is_pending(id)
  elseif kind == 'unknown' then
    add = idle and not score and is_pending(id)
    list = add and at == 0
  else
    add = idle and score and score > at
  end
  if add then redis.call('ZADD', incomplete, at, id) end
  if list then redis.call('RPUSH', queued, id) end
  if add or list then
    counts[kind] = (counts[kind] or 0) + 1
  end
end
for kind, number in pairs(counts) do
  redis.pcall('HINCRBY', KEYS[4], 'repaired:' .. kind, number)
  flat[#flat + 1] = kind
  flat[#flat + 1] = number
end
if #flat > 0 then redis.pcall('PUBLISH', ARGV[3], ARGV[1]) end
return flat
