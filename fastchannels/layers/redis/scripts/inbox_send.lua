-- Puts messages into the inbox of the process that owns their channels.
-- KEYS: inbox, set of full channels. ARGV: expiry, capacity of the inbox, lifetime of the key, body...
-- Returns a digit for each body: 0 stored, 1 the inbox is full, 2 its channel is full (D-39).
local expiry, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local stamp = stamp_of(now)
local room = room_for(#ARGV - 3, KEYS[1], capacity, now - expiry)
local marked = redis.call('EXISTS', KEYS[2]) == 1
local entries, status = {}, {}
for i = 4, #ARGV do
  local body = ARGV[i]
  if marked and redis.call('SISMEMBER', KEYS[2], string.sub(body, 3, 2 + string.byte(body, 2))) == 1 then
    status[i - 3] = '2'
  elseif #entries < room then
    entries[#entries + 1] = stamp .. body
    status[i - 3] = '0'
  else
    status[i - 3] = '1'
  end
end
if #entries > 0 then
  redis.call('RPUSH', KEYS[1], unpack(entries))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return table.concat(status)
