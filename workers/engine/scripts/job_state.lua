-- Functions of the scripts that read or change single jobs: job_reader.py has their text begin with this one.
-- All but unlist change nothing.  A key of another type counts as empty.
--
-- queued, incomplete, leases, completed, failed: as in take.lua and settle.lua.

local function read(otherwise, command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then return otherwise end
  return reply
end

-- Where a job is, and a mark that changes whenever it moves: its lease, its time, or when it ended.
--
-- running    it has a lease
-- ready      on incomplete, and its time has come or is invalid
-- scheduled  on incomplete for a later time, or for one that no process has noticed yet
-- done, failed  ended, and so its record has a TTL or is on one of the lists of the ended
-- unlisted   its record has not ended, and incomplete does not have it
-- gone       nothing of it is there
local function state_of(id, prefix, incomplete, leases, completed, failed, last_second)
  local lease = read(false, 'HGET', leases, id)
  if lease then return 'running', lease end
  local score = read(false, 'ZSCORE', incomplete, id)
  if score then
    local at = tonumber(score)
    if at > 0 and at < last_second then return 'scheduled', score end
    return 'ready', ''
  end
  local ended = read(false, 'ZSCORE', completed, id)
  if ended then return 'done', ended end
  ended = read(false, 'ZSCORE', failed, id)
  if ended then return 'failed', ended end
  -- A key of another program does not count.
  local ttl = string.sub(id, 1, #prefix) == prefix and redis.call('PTTL', id) or -2
  if ttl > 0 then return 'ended', '' end
  if ttl == -1 then return 'unlisted', '' end
  return 'gone', ''
end

-- Its record, and the type of that: string, none, another type, or foreign if the id is of no job here.
local function record_of(id, prefix)
  if string.sub(id, 1, #prefix) ~= prefix then return false, 'foreign' end
  local record = redis.pcall('GET', id)
  if type(record) == 'string' then return record, 'string' end
  if record == false then return false, 'none' end
  return false, redis.call('TYPE', id).ok
end

-- Take a job off queued.  From a million it takes 40 ms to remove one at the far end: so from the nearer one.
local function unlist(queued, id)
  local is_near = redis.call('LPOS', queued, id, 'MAXLEN', 100000)
  redis.call('LREM', queued, is_near and 1 or -1, id)
end

