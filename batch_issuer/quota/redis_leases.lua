-- The slots of one organization in Redis: the rules of leases.py, by this server's clock.
--
-- KEYS  1 slots   sorted set: lease -> time when it is free, in seconds; +inf while its request is in flight
--       2 runs    hash: run -> "requests waiting, asked at, seen at"
--       3 state   hash: gate (time when it opens), longest (longest hold time so far, in seconds)
--       4 server  hash for all organizations: run_id, generation, born, lost_at
-- ARGV  1 command  2 run  3 the generation that the run knows, or ""  4 a new generation, used if there is none
--       5 limit  6 cooling time  7 grace for lost requests  8 active for  9 dead after (6 to 9 in seconds)
--       10, 11 by command: take lease waiting | end lease seconds | gate seconds | snapshot | heartbeat | leave
-- A lease starts with the 32 characters of its run. The reply is JSON because Redis would truncate fractions.

local slots, runs, state, server = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local what, run, known_generation = ARGV[1], ARGV[2], ARGV[3]
local limit, cooling, grace = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local active, dead_after = tonumber(ARGV[8]), tonumber(ARGV[9])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local function run_of(lease) return string.sub(lease, 1, 32) end
local function written(seconds) return string.format('%.6f', seconds) end
local function until_then(seconds) return written(now + seconds) end
local function field(key, name) return tonumber(redis.call('HGET', key, name) or '-1') end

local longest = math.max(field(state, 'longest'), cooling + grace)
redis.call('HSET', state, 'longest', written(longest))

-- A restarted or replaced server may have lost track of earlier requests: until these no longer count, no run gets a
-- slot. If a run knows another generation, the server's memory was wiped since.
local info = redis.pcall('INFO', 'server')
info = type(info) == 'string' and info or ''
local run_id = string.match(info, 'run_id:(%x+)') or 'unknown'
local known_id = redis.call('HGET', server, 'run_id')
if known_id ~= run_id then
  local started_at = now - tonumber(string.match(info, 'uptime_in_seconds:(%d+)') or 0)
  local lost_at = known_id and now or started_at
  redis.call(
    'HSET', server, 'run_id', run_id, 'generation', ARGV[4], 'born', until_then(0), 'lost_at', written(lost_at)
  )
end
local generation = redis.call('HGET', server, 'generation')
if known_generation ~= '' and known_generation ~= generation then
  redis.call('HSET', server, 'lost_at', written(math.max(field(server, 'lost_at'), field(server, 'born'))))
end
local gate = math.max(0, field(state, 'gate') - now, field(server, 'lost_at') + longest - now)

local waiting, known, last_asked = {}, false, nil
local all_runs = redis.call('HGETALL', runs)
for i = 1, #all_runs, 2 do
  local wants, asked, seen = string.match(all_runs[i + 1], '(%S+) (%S+) (%S+)')
  local id = all_runs[i]
  if now - tonumber(seen) > dead_after then
    redis.call('HDEL', runs, id)
  else
    if id == run then
      known, last_asked = true, wants .. ' ' .. asked
    end
    local age = now - tonumber(asked)
    if tonumber(wants) > 0 and age >= 0 and age <= active then
      waiting[id] = tonumber(wants)
    end
    all_runs[id] = true
  end
end

-- Free cooled slots, and let unanswered leases of dead runs lapse from now. If the clock was set back, no slot is freed
-- early or kept longer than one that was just taken.
redis.call('ZREMRANGEBYSCORE', slots, '-inf', until_then(0))
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', slots, until_then(longest + 1), '+inf')) do
  local in_flight = redis.call('ZSCORE', slots, lease) == 'inf'
  if not (in_flight and (all_runs[run_of(lease)] or run_of(lease) == run)) then
    redis.call('ZADD', slots, until_then(longest), lease)
  end
end

local function record_run(wants, asked)
  redis.call('HSET', runs, run, wants .. ' ' .. asked .. ' ' .. until_then(0))
end

local answer = { generation = generation, known = known, gate = gate,
  forgot = math.max(0, field(server, 'lost_at') + longest - now) }

if what == 'take' then
  local lease, wants = ARGV[10], tonumber(ARGV[11])
  waiting[run] = wants
  local held, total, count = {}, 0, 0
  for _, other in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
    held[run_of(other)] = (held[run_of(other)] or 0) + 1
    total = total + 1
  end
  for _ in pairs(waiting) do count = count + 1 end
  local mine, needed, alone = held[run] or 0, 0, count == 1
  for other, other_wants in pairs(waiting) do
    needed = needed + math.max(0, math.min(other_wants, mine - (held[other] or 0)))
  end
  for holder in pairs(held) do alone = alone and holder == run end
  local free = limit - total
  local granted = answer.gate == 0 and free > needed
  if granted then
    redis.call('ZADD', slots, '+inf', lease)
    wants = wants - 1
  end
  record_run(wants, until_then(0))
  local first = redis.call('ZRANGE', slots, 0, 0, 'WITHSCORES')
  answer.granted, answer.runs, answer.alone, answer.free = granted, count, alone, free
  if first[2] and first[2] ~= 'inf' then answer.release = tonumber(first[2]) - now end
elseif what == 'end' then
  if tonumber(ARGV[11]) > 0 then
    redis.call('ZADD', slots, until_then(tonumber(ARGV[11])), ARGV[10])
  else
    redis.call('ZREM', slots, ARGV[10])
  end
elseif what == 'gate' then
  redis.call('HSET', state, 'gate', written(math.max(field(state, 'gate'), now + tonumber(ARGV[10]))))
elseif what == 'snapshot' then
  local in_flight, releases, wants = 0, {}, {}
  local all_slots = redis.call('ZRANGE', slots, 0, -1, 'WITHSCORES')
  for i = 1, #all_slots, 2 do
    if run_of(all_slots[i]) == run then
      -- this run's own slots
    elseif all_slots[i + 1] == 'inf' then
      in_flight = in_flight + 1
    else
      table.insert(releases, tonumber(all_slots[i + 1]) - now)
    end
  end
  for other, other_wants in pairs(waiting) do
    if other ~= run then table.insert(wants, other_wants) end
  end
  answer.in_flight, answer.releases, answer.waiting = in_flight, releases, wants
elseif what == 'leave' then
  redis.call('HDEL', runs, run)
end

if what ~= 'take' and what ~= 'leave' and what ~= 'snapshot' then
  record_run(last_asked and string.match(last_asked, '%S+') or 0, last_asked and string.match(last_asked, ' (%S+)') or 0)
end

for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, math.ceil(math.max(86400, 10 * longest)))
end
return cjson.encode(answer)
