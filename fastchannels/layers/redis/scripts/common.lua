-- Put before every script. Times are milliseconds of the server's clock (D-07).

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function stamp_of(ms)
  return struct.pack('>I6', ms)
end

-- Pops the messages at the head that are older than `oldest`. A list is in order of its stamps, so it stops at the
-- first young one; notes of an inbox have no stamp, never expire, and stop it too.
local function trim(key, oldest)
  while true do
    local head = redis.call('LINDEX', key, 0)
    if not head then return end
    local stamp = struct.unpack('>I6', head)
    if stamp == 0 or stamp >= oldest then return end
    redis.call('LPOP', key)
  end
end

-- Messages that fit into `key`, which may hold `capacity`, when `wanted` come.
local function room_for(wanted, key, capacity, oldest)
  local held = redis.call('LLEN', key)
  if held + wanted > capacity then
    trim(key, oldest)
    held = redis.call('LLEN', key)
  end
  return capacity - held
end

-- What the entry of a process in a group is set to next: later than it is, and than any before.
local function next_counter(group, process)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  return math.max(now, tonumber(redis.call('HGET', group, process) or 0) + 1)
end
