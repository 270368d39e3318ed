-- Subjects have changed: no entry that depends on them counts any longer, also where one is being loaded now.
--
-- Invariant: it is the missing generation that outdates the entries; the owner's are removed as well, and where
-- their list was evicted they go with their time.
--
-- KEYS  generations of the subjects, then lists of owners' entries
-- ARGV  1 number of generations
-- Reply number of entries that were removed
local AT_ONCE = 1000  -- unpack takes some thousand values
local removed = 0
local function unlink(keys, first, last)
  local count = 0
  for from = first, last, AT_ONCE do
    count = count + redis.call('UNLINK', unpack(keys, from, math.min(from + AT_ONCE - 1, last)))
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
