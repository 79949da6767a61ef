-- Begins the lease of a process, or renews it.
-- KEYS: lease. ARGV: lease.
-- Returns 1 when the lease still stood, 0 when it had ended or Redis had lost its data.
-- The first command is one that Redis runs when it is out of memory; then those that follow it are run as well.
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1 and redis.call('GET', KEYS[1]) == 'heartbeat' then
  return 1
end
redis.call('SET', KEYS[1], 'heartbeat', 'PX', ARGV[1])
return 0
