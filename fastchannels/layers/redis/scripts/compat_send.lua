-- Puts messages on a channel in the form of channels_redis: a sorted set, scored by seconds since the epoch.
-- KEYS: queue. ARGV: expiry, then for each message the capacity of its channel, a space, and its bytes.
-- Returns a digit for each message: 0 stored, 1 the channel is full.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now - tonumber(ARGV[1]) / 1000))
local held = redis.call('ZCARD', KEYS[1])
-- Later than what is there, so that messages are read in the order in which they came. A sender of channels_redis
-- whose clock is ahead by more than a second is not followed.
local last = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or 0)
if last >= now and last < now + 1 then
  now = last + 0.000001
end
local status, stored = {}, false
for i = 2, #ARGV do
  local capacity, start = string.match(ARGV[i], '^(%d+) ()')
  if held < tonumber(capacity) then
    held = held + redis.call('ZADD', KEYS[1], string.format('%.6f', now), string.sub(ARGV[i], start))
    now = now + 0.000001
    status[i - 1] = '0'
    stored = true
  else
    status[i - 1] = '1'
  end
end
if stored then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return table.concat(status)
