-- Puts into an inbox how many messages were put in so far: behind them, so that its reader can tell which did not come.
-- KEYS: inbox, counter. ARGV: a note without the count, lifetime of the inbox.
redis.call('RPUSH', KEYS[1], ARGV[1] .. (redis.call('GET', KEYS[2]) or '0'))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
