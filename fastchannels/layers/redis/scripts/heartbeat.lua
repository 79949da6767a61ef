-- Renews the lease of a process.
-- KEYS: lease, set of full channels. ARGV: lease.
-- Returns 1 when the lease still stood, 0 when it had ended or Redis had lost its data.
redis.call('PEXPIRE', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[1]) == 'heartbeat' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  return 1
end
redis.call('SET', KEYS[1], 'heartbeat', 'PX', ARGV[1])
return 0
