-- Records that a process has a member of the group; with an inbox it also tells that process which.
-- KEYS: group, lease[, inbox]. ARGV: process, group expiry, lease[, lifetime of the inbox, body of the note].
-- Returns the new counter. It grows with every add, also over a removal, so that a process that leaves with an old
-- counter cannot undo an add it has not seen.
local time = redis.call('TIME')
local counter = time[1] * 1000000 + time[2]
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and tonumber(old) >= counter then
  counter = tonumber(old) + 1
end
counter = string.format('%.0f', counter)
redis.call('HSET', KEYS[1], ARGV[1], counter)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
-- A process whose first heartbeat is still on its way gets the time of one lease; only a heartbeat renews it.
redis.call('SET', KEYS[2], 'joined', 'PX', ARGV[3], 'NX')
if KEYS[3] then
  redis.call('RPUSH', KEYS[3], stamp_of(0) .. ARGV[5] .. ' ' .. counter)
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
return counter
