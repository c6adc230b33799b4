"""What Redis does in one step. A script looks at the tag first: nothing is answered for another."""

_AT_TAG = """
local board = redis.call('HMGET', KEYS[1], 'tag', 'set')
if board[1] ~= ARGV[1] then return false end
local set = board[2]
"""

WINDOW = f"""
{_AT_TAG}
local first, last = 0, ARGV[2] - 1
if ARGV[3] ~= '' then
    local rank = redis.call('ZREVRANK', set, ARGV[3])
    if not rank then return {{redis.call('ZCARD', set), {{}}}} end
    first, last = math.max(0, rank - ARGV[4]), rank + ARGV[4]
end
return {{redis.call('ZCARD', set), redis.call('ZREVRANGE', set, first, last, 'WITHSCORES')}}
"""

ABOVE = f"""
{_AT_TAG}
local above = {{}}
for i = 2, #ARGV do
    above[#above + 1] = redis.call('ZCOUNT', set, '(' .. ARGV[i], '+inf')
end
return above
"""

PUSH = """
local board = redis.call('HMGET', KEYS[1], 'tag', 'set')
if not board[1] then return -1 end
if board[1] ~= ARGV[1] then return 0 end
local set = board[2]
for i = 4, 3 + ARGV[3] do redis.call('ZREM', set, ARGV[i]) end
for i = 4 + ARGV[3], #ARGV, 2 do redis.call('ZADD', set, ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'tag', ARGV[2])
return 1
"""

COMPARE = f"""
{_AT_TAG}
if redis.call('ZCARD', set) ~= tonumber(ARGV[2]) then return 0 end
for i = 3, #ARGV, 2 do
    if redis.call('ZCOUNT', set, ARGV[i], '+inf') ~= tonumber(ARGV[i + 1]) then return 0 end
end
return 1
"""

SWITCH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
local old = redis.pcall('HGET', KEYS[1], 'set')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'tag', ARGV[2], 'built_at_ms', ARGV[3], 'set', KEYS[3])
if ARGV[4] == '0' then
    redis.call('PERSIST', KEYS[3])
else
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
end
if type(old) == 'string' and old ~= KEYS[3] then redis.call('UNLINK', old) end
redis.call('DEL', KEYS[2])
return 1
"""

UNLOCK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('UNLINK', KEYS[2])
return 1
"""
