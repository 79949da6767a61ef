-- Returns the members of a group of channels_redis, without those that joined longer ago than the group expiry.
-- KEYS: group. ARGV: group expiry.
local time = redis.call('TIME')
local oldest = tonumber(time[1]) + tonumber(time[2]) / 1000000 - tonumber(ARGV[1]) / 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', oldest))
return redis.call('ZRANGE', KEYS[1], 0, -1)
