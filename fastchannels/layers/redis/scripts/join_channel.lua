-- Makes an ordinary channel a member of the group, or refreshes its membership.
-- KEYS: group. ARGV: channel, group expiry, capacity of the channel.
redis.call('HSET', KEYS[1], '=' .. ARGV[1], string.format('%.0f %s', now_ms(), ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
