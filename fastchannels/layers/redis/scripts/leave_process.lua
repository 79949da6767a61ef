-- Takes a process out of the group unless somebody added a member that the process has not seen yet.
-- KEYS: group. ARGV: process, the counter that the process has seen.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
