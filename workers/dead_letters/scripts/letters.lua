-- Read letters that wait for the database: as many as one reply should hold, and one at least.  Changes nothing.
--
-- KEYS  1 letter  hash  as in settle.lua
-- ARGV  1 bytes of the reply  then uids
-- Reply the text of each uid, nil if it is gone; it ends before the one that would make it too large.
local out, left = {}, tonumber(ARGV[1])
for i = 2, #ARGV do
  local text = redis.call('HGET', KEYS[1], ARGV[i])
  if text then left = left - #text end
  if left < 0 and i > 2 then break end
  out[#out + 1] = text
end
return out
