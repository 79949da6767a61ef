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

-- An inbox holds notes, which are entries without an age, and batches of messages: the stamp, 'b', a byte of 0, how many
-- messages were put in before by the counter of this inbox (6 bytes), then each message behind its size (4 bytes).
-- One call puts in MOST messages at most.
local MOST = 128

local function batch_of(stamp, before, messages)
  return stamp .. 'b\0' .. struct.pack('>I6', before) .. messages
end

-- Messages of `wanted` that fit into `inbox`. They are counted only when so many lists of MOST could be too many.
local function inbox_room(wanted, inbox, counter, capacity, oldest)
  local length = redis.call('LLEN', inbox)
  if length * MOST + wanted <= capacity then return wanted end
  trim(inbox, oldest)
  local index, entry = 0, redis.call('LINDEX', inbox, 0)
  while entry and struct.unpack('>I6', entry) == 0 do
    index = index + 1
    entry = redis.call('LINDEX', inbox, index)
  end
  if not entry then return math.min(wanted, capacity) end
  local held = tonumber(redis.call('GET', counter) or 0) - struct.unpack('>I6', entry, 9)
  return math.min(wanted, capacity - math.max(held, redis.call('LLEN', inbox) - index))
end

-- The counter outlives the inbox by a day, so that the next batch tells what became of those before it.
local COUNTED = 86400000

local function put_in(inbox, counter, stamp, count, messages, lifetime)
  local before = redis.call('INCRBY', counter, count) - count
  redis.call('RPUSH', inbox, batch_of(stamp, before, messages))
  redis.call('PEXPIRE', inbox, lifetime)
  redis.call('PEXPIRE', counter, COUNTED)
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
