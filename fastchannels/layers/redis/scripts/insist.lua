-- Pushes an entry that ends a blocked pop, also when Redis is out of memory: readers are what frees it.
-- KEYS: list. ARGV: entry[, lifetime of the list].
-- A script that has begun to write is not stopped for want of memory; this trims nothing.
redis.call('LTRIM', KEYS[1], 0, -1)
redis.call('RPUSH', KEYS[1], ARGV[1])
if ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
