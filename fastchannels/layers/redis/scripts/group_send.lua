-- Puts one message into the inbox of each process that has a member, and on each ordinary channel of the group, or of
-- several groups: once.
-- KEYS: groups, and in a cluster the anchor of the shard (keys.py), which has no fields. ARGV: start of all keys, the message as an inbox takes it, bytes of it before its payload, expiry, group
-- expiry, capacity of an inbox, lifetime of an inbox, 1 when ordinary channels have shards of their own, and ordinary
-- channels that get nothing.
-- The keys of inboxes, their counters, leases and (with one shard) queues follow from the group's fields; they share the
-- group's shard.
-- Returns {passed over because full, all members met, processes taken for dead, channel, its capacity, ...}: those
-- channels the sender has to send to.
local base, body = ARGV[1], ARGV[2]
local expiry, group_expiry, capacity, lifetime = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local now = now_ms()
local stamp = stamp_of(now)
local full, met, gone, reply = 0, 0, 0, {0, 0, 0}
local done = {}
for i = 9, #ARGV do
  done['=' .. ARGV[i]] = true
end
for _, group in ipairs(KEYS) do
  local fields = redis.call('HGETALL', group)
  for i = 1, #fields, 2 do
    local field = fields[i]
    if done[field] then
      -- It is in one of the groups before, or excluded.
    elseif string.sub(field, 1, 1) == '=' then
      local since, holds = string.match(fields[i + 1], '^(%d+) (%d+)$')
      if now - tonumber(since) > group_expiry then
        redis.call('HDEL', group, field)
      else
        done[field] = true
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
      redis.call('HDEL', group, field)
      gone = gone + 1
    else
      done[field] = true
      met = met + 1
      local inbox, counter = base .. 'i|' .. field, base .. 'c|' .. field
      if inbox_room(1, inbox, counter, capacity, now - expiry) > 0 then
        put_in(inbox, counter, stamp, 1, body, lifetime)
      else
        full = full + 1
      end
    end
  end
end
reply[1], reply[2], reply[3] = full, met, gone
return reply
