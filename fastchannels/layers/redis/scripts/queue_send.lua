-- Puts messages on an ordinary channel.
-- KEYS: queue. ARGV: expiry, capacity, payload...
-- Returns a digit for each payload: 0 stored, 1 the channel is full.
local expiry, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()
local stamp = stamp_of(now)
local room = room_for(#ARGV - 2, KEYS[1], capacity, now - expiry)
local entries, status = {}, {}
for i = 3, #ARGV do
  if #entries < room then
    entries[#entries + 1] = stamp .. ARGV[i]
    status[i - 2] = '0'
  else
    status[i - 2] = '1'
  end
end
if #entries > 0 then
  redis.call('RPUSH', KEYS[1], unpack(entries))
  redis.call('PEXPIRE', KEYS[1], expiry + 1000)
end
return table.concat(status)
