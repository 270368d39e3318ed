-- Invalidate all entries that have one of some tags, including those that are being loaded now.
--
-- Invariant: the missing version of a tag is what invalidates entries.  Those of owners are removed as well; if
-- their list was evicted, they expire.
--
-- KEYS  versions of the tags, then lists of owners' entries
-- ARGV  1 number of versions
-- Reply number of entries that were removed
local BATCH = 1000  -- unpack takes some thousand values
local removed = 0
local function unlink(keys, first, last)
  local count = 0
  for from = first, last, BATCH do
    count = count + redis.call('UNLINK', unpack(keys, from, math.min(from + BATCH - 1, last)))
  end
  return count
end

local lists = tonumber(ARGV[1]) + 1
unlink(KEYS, 1, lists - 1)
for i = lists, #KEYS do
  local entries = redis.call('ZRANGE', KEYS[i], 0, -1)
  removed = removed + unlink(entries, 1, #entries)
end
unlink(KEYS, lists, #KEYS)
return removed
