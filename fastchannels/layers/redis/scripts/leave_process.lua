-- Takes a process out of groups, but for those that somebody added a member to that the process has not seen yet.
-- KEYS: group... ARGV: process, the counter that the process has seen for each.
local left = 0
for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], ARGV[1]) == ARGV[i + 1] then
    left = left + redis.call('HDEL', KEYS[i], ARGV[1])
  end
end
return left
