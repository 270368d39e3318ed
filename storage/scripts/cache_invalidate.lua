-- Subjects have changed: no entry that depends on them counts any longer, also where one is being loaded now.
--
-- Invariant: it is the missing generation that outdates the entries; the owner's are removed as well, and where
-- their list was evicted they go with their time.
--
-- KEYS  generations of the subjects, then lists of owners' entries
-- ARGV  1 number of generations
-- Reply number of entries that were removed
local removed = 0
for i = tonumber(ARGV[1]) + 1, #KEYS do
  local entries = redis.call('ZRANGE', KEYS[i], 0, -1)
  for first = 1, #entries, 1000 do
    removed = removed + redis.call('UNLINK', unpack(entries, first, math.min(first + 999, #entries)))
  end
end
if #KEYS > 0 then redis.call('UNLINK', unpack(KEYS)) end
return removed
