-- Puts one message into the inbox of each process that has a member, and on each ordinary channel of the group.
-- KEYS: group. ARGV: start of all keys, the message as an inbox takes it, bytes of it before its payload, expiry, group
-- expiry, capacity of an inbox, lifetime of an inbox, 1 when ordinary channels have shards of their own.
-- The keys of inboxes, their counters, leases and (with one shard) queues follow from the group's fields; they share the
-- group's shard.
-- Returns {passed over because full, all members met, processes taken for dead, channel, its capacity, ...}: those
-- channels the sender has to send to.
local base, body = ARGV[1], ARGV[2]
local expiry, group_expiry, capacity, lifetime = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local now = now_ms()
local stamp = stamp_of(now)
local fields = redis.call('HGETALL', KEYS[1])
local full, met, gone, reply = 0, 0, 0, {0, 0, 0}
for i = 1, #fields, 2 do
  local field = fields[i]
  if string.sub(field, 1, 1) == '=' then
    local since, holds = string.match(fields[i + 1], '^(%d+) (%d+)$')
    if now - tonumber(since) > group_expiry then
      redis.call('HDEL', KEYS[1], field)
    else
      met = met + 1
      local channel = string.sub(field, 2)
      local queue = base .. 'q|' .. channel
      if ARGV[8] == '1' then
        reply[#reply + 1] = channel
        reply[#reply + 1] = tonumber(holds)
      elseif room_for(1, queue, tonumber(holds), now - expiry) > 0 then
        redis.call('RPUSH', queue, stamp .. string.sub(body, tonumber(ARGV[3]) + 1))
        redis.call('PEXPIRE', queue, expiry + 1000)
      else
        full = full + 1
      end
    end
  elseif redis.call('EXISTS', base .. 'l|' .. field) == 0 then
    redis.call('HDEL', KEYS[1], field)
    gone = gone + 1
  else
    met = met + 1
    local inbox, counter = base .. 'i|' .. field, base .. 'c|' .. field
    if inbox_room(1, inbox, counter, capacity, now - expiry) > 0 then
      put_in(inbox, counter, stamp, 1, body, lifetime)
    else
      full = full + 1
    end
  end
end
reply[1], reply[2], reply[3] = full, met, gone
return reply
