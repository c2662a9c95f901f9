-- clock: reads the time of the Redis server, the only clock that scripts use: `now` in ms, `now_us` in µs.
local redis_time = redis.call('TIME')
local now_us = redis_time[1] * 1000000 + redis_time[2]
local now = math.floor(now_us / 1000)
