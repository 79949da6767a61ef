-- Records that a process has members of groups.
-- KEYS: lease, group... ARGV: process, group expiry, lease.
-- Returns the new counter of its entries. It grows with every add, also over a removal, so that a process that leaves
-- with an old counter cannot undo an add it has not seen.
local counter = 0
for i = 2, #KEYS do
  counter = math.max(counter, next_counter(KEYS[i], ARGV[1]))
end
counter = string.format('%.0f', counter)
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], ARGV[1], counter)
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
-- A process whose first heartbeat is still on its way gets the time of one lease; only a heartbeat renews it.
redis.call('SET', KEYS[1], 'joined', 'PX', ARGV[3], 'NX')
return counter
