-- Puts messages into the inbox of the process that owns their channels.
-- KEYS: inbox, set of full channels, counter of the inbox, and in a cluster the anchor of the shard (keys.py). ARGV:
-- expiry, capacity of the inbox, lifetime of the keys, number of messages, the messages, each behind its size (4 bytes).
-- Returns a digit for each message: 0 stored, 1 the inbox is full, 2 its channel is full (D-39).
local expiry, capacity, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local count, messages = tonumber(ARGV[4]), ARGV[5]
local now = now_ms()
local room = inbox_room(count, KEYS[1], KEYS[3], capacity, now - expiry)
if room == count and redis.call('EXISTS', KEYS[2]) == 0 then
  put_in(KEYS[1], KEYS[3], stamp_of(now), count, messages, lifetime)
  return string.rep('0', count)
end
local kept, status, at = {}, {}, 1
for i = 1, count do
  local size = struct.unpack('>I4', messages, at)
  local name = string.sub(messages, at + 6, at + 5 + string.byte(messages, at + 5))
  if redis.call('SISMEMBER', KEYS[2], name) == 1 then
    status[i] = '2'
  elseif #kept < room then
    kept[#kept + 1] = string.sub(messages, at, at + 3 + size)
    status[i] = '0'
  else
    status[i] = '1'
  end
  at = at + 4 + size
end
if #kept > 0 then
  put_in(KEYS[1], KEYS[3], stamp_of(now), #kept, table.concat(kept), lifetime)
end
return table.concat(status)
