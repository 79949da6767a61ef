-- Adds a channel of another process to a group: records that the process has a member, and tells it which.
-- KEYS: group, lease, inbox. ARGV: process, group expiry, lease, lifetime of the inbox, body of the note.
-- Returns the new counter (see announce.lua).
local counter = string.format('%.0f', next_counter(KEYS[1], ARGV[1]))
redis.call('HSET', KEYS[1], ARGV[1], counter)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], 'joined', 'PX', ARGV[3], 'NX')
redis.call('RPUSH', KEYS[3], stamp_of(0) .. ARGV[5] .. ' ' .. counter)
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return counter
