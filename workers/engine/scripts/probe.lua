-- Find out what the server lets us do, on keys of our own, of which nothing is left when it ends.
--
-- Invariant: every command of the other scripts is tried; a test compares them.
--
-- KEYS  1 probe key among ours  2 probe key among SAQ's; in cluster mode they lie on different nodes
-- ARGV  1 writes: one write, which a full server refuses | rights: every command, also on a full server
--         | check: as rights, but nothing is executed; a server before Redis 7 cannot do that and permits all
--       2.. channels on which we publish
-- Reply {command, key or channel ('': none), error, command, ...} of what is refused; of writes {}
local PROBE, TTL_MS = 'probe', 5000
local SAME = {}  -- the key's own name

if ARGV[1] == 'writes' then
  redis.call('SET', KEYS[1], PROBE, 'PX', TTL_MS)
  redis.call('DEL', KEYS[1])
  for i = 2, #ARGV do redis.call('PUBLISH', ARGV[i], PROBE) end
  return {}
end

local DRY = ARGV[1] == 'check'
if DRY and not redis.acl_check_cmd then return {} end

-- For each type of value the commands, in an order in which the key has that type or is gone.
local ON_KEY = {
  {'DEL'},  -- see take.lua: a write that adds nothing comes first
  {'SET', '1', 'PX', TTL_MS}, {'GET'}, {'MGET'}, {'EXISTS'}, {'INCR'}, {'EXPIRE', 5}, {'PEXPIRE', TTL_MS},
  {'PTTL'}, {'TYPE'}, {'PERSIST'}, {'RENAME', SAME}, {'DEL'},
  {'RPUSH', 'a', 'b'}, {'LPUSH', 'c'}, {'PEXPIRE', TTL_MS}, {'LLEN'}, {'LINDEX', 0}, {'LRANGE', 0, 0},
  {'LPOS', 'a'}, {'LTRIM', 0, 2}, {'LREM', 1, 'a'}, {'LPOP'},
  {'DEL'},
  {'HSET', 'a', 1}, {'PEXPIRE', TTL_MS}, {'HINCRBY', 'a', 1}, {'HGET', 'a'}, {'HMGET', 'a'}, {'HGETALL'}, {'HLEN'},
  {'HKEYS'}, {'HVALS'}, {'HEXISTS', 'a'}, {'HSETNX', 'a', 1}, {'HDEL', 'a'}, {'DEL'},
  {'ZADD', 1, 'a', 2, 'b', 3, 'c'}, {'PEXPIRE', TTL_MS}, {'ZCARD'}, {'ZCOUNT', 0, 1}, {'ZSCORE', 'a'}, {'ZMSCORE', 'a'},
  {'ZRANGE', 0, 0}, {'ZRANK', 'a'}, {'ZRANGEBYSCORE', 0, 1}, {'ZREVRANGEBYSCORE', 1, 0}, {'ZPOPMIN'}, {'ZREM', 'b'},
  {'ZREMRANGEBYSCORE', 0, 9}, {'DEL'},
}
local refused, seen = {}, {}
local function try(command, on, ...)
  if DRY and (on == '' and redis.acl_check_cmd(command) or on ~= '' and redis.acl_check_cmd(command, on, ...)) then
    return
  end
  local reply  -- of a check: an error, without effect, that says which right is missing
  if on == '' then reply = redis.pcall(command) else reply = redis.pcall(command, on, ...) end
  if type(reply) == 'table' and reply.err and not seen[command .. on] then
    seen[command .. on] = true
    refused[#refused + 1] = command
    refused[#refused + 1] = on
    refused[#refused + 1] = reply.err
  end
end
for _, key in ipairs(KEYS) do
  for _, words in ipairs(ON_KEY) do
    if words[2] == SAME then try(words[1], key, key) else try(words[1], key, unpack(words, 2)) end
  end
end
try('TIME', '')
for i = 2, #ARGV do try('PUBLISH', ARGV[i], PROBE) end
return refused
