-- Puts messages on a channel in the form of channels_redis: a sorted set, scored by seconds since the epoch.
-- KEYS: queue. ARGV: expiry, then for each message the capacity of its channel, a space, and its bytes.
-- Returns a digit for each message: 0 stored, 1 the channel is full.

-- Whole microseconds are exact in a double, sums of fractions of a second are not.
local function score(micros)
  return string.format('%d.%06d', math.floor(micros / 1000000), micros % 1000000)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', score(now - math.floor(ARGV[1] * 1000)))
local held = redis.call('ZCARD', KEYS[1])
-- Later than what is there, so that messages are read in the order in which they came. A sender of channels_redis
-- whose clock is ahead by more than a second is not followed.
local last = (tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]) or 0) * 1000000
if last >= now - 1 and last < now + 1000000 then
  now = math.floor(last + 0.5) + 1
end
local status, stored = {}, false
for i = 2, #ARGV do
  local capacity, start = string.match(ARGV[i], '^(%d+) ()')
  if held < tonumber(capacity) then
    held = held + redis.call('ZADD', KEYS[1], score(now), string.sub(ARGV[i], start))
    now = now + 1
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
