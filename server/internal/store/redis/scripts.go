package redis

// The feed keeps two keys beside the issuer's: a hash with the bound, a name of its
// own life, the counter of revisions and a field for each registered replica; and a
// sorted set with the events of sessiond's own revocations, by revision. The set holds
// the name of the life too, at 0, so that one that was evicted or is another's is
// noticed: without both there is no feed. Each script is one step for everybody.
// KEYS[1] is the hash, KEYS[2] the set.
const (
	// lifeScript reads the life; false: there is none.
	lifeScript = `
local life = redis.call('HGET', KEYS[1], 'life')
if life and not redis.call('ZSCORE', KEYS[2], life) then life = false end`

	// registerScript: ARGV id, bound in ms, a name for a new life. Without an id it
	// takes no place and installs no bound. It returns the life, the revision and the
	// bound that is installed.
	registerScript = lifeScript + `
if not life then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'life', ARGV[3], 'bound', ARGV[2], 'rev', '0')
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
end
local rev, bound
life, rev, bound = unpack(redis.call('HMGET', KEYS[1], 'life', 'rev', 'bound'))
if bound == '0' then
  redis.call('HSET', KEYS[1], 'bound', ARGV[2])
  bound = ARGV[2]
end
if bound == ARGV[2] and ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'replica:' .. ARGV[1], '1 ' .. rev .. '.0.0 ' .. rev .. '.0.0 -')
end
return {life, rev, bound}`

	// readScript: ARGV revision to read from, the most events.
	// It returns the life, the revision and the events after the one given.
	readScript = lifeScript + `
if not life then return {'', '0'} end
return {life, redis.call('HGET', KEYS[1], 'rev'), redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', '0', ARGV[2])}`

	// beatScript: ARGV revision to read from, the most events, id, last acknowledged
	// beat, the replica's new value. It returns as readScript does; no life where the
	// replica has lost its place.
	beatScript = `
local field = 'replica:' .. ARGV[3]
local now = redis.call('HGET', KEYS[1], field)
if not now or tonumber(string.match(now, '^%d+')) < tonumber(ARGV[4]) then return {'', '0'} end
redis.call('HSET', KEYS[1], field, ARGV[5])` + readScript

	// excludeScript: ARGV id, beat. It returns 1 where the replica was removed.
	excludeScript = `
local field = 'replica:' .. ARGV[1]
local now = redis.call('HGET', KEYS[1], field)
if not now or string.match(now, '^%d+') ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], field)`

	// cleanScript removes the events that every replica's written position is past.
	cleanScript = `
local least = nil
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 8) == 'replica:' then
    local written = tonumber(string.match(all[i + 1], '^%d+ (%d+)'))
    if not least or written < least then least = written end
  end
end
if least then redis.call('ZREMRANGEBYSCORE', KEYS[2], '(0', least) end
return 0`

	// revisionScript counts the revision on: whoever has read it has read what was
	// committed before.
	revisionScript = lifeScript + `
if not life then return {'', '0'} end
return {life, tostring(redis.call('HINCRBY', KEYS[1], 'rev', 1))}`

	// revokeScript: KEYS[3] the user's list of sessions, KEYS[4] the mark of his
	// revoked sessions, KEYS[5…] sessions. ARGV: the event without its revision, empty for none; the
	// list as it was read and as it is to be, its seconds; the mark in ms and its
	// seconds, 0 for none. It returns no life where the list has changed meanwhile.
	// It deletes first: a server whose memory is full lets a script write that has.
	revokeScript = lifeScript + `
if not life then return {'gone', '0', '0'} end
if (redis.call('GET', KEYS[3]) or '') ~= ARGV[2] then return {'', '0', '0'} end
local ended = 0
for i = 5, #KEYS do ended = ended + redis.call('DEL', KEYS[i]) end
if tonumber(ARGV[6]) > 0 then
  local before = tonumber(redis.call('GET', KEYS[4]) or '0') or 0
  if before < tonumber(ARGV[5]) then redis.call('SET', KEYS[4], ARGV[5], 'EX', ARGV[6]) end
end
if ARGV[3] ~= ARGV[2] then
  if ARGV[3] == '' then redis.call('DEL', KEYS[3]) else redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4]) end
end
local rev = redis.call('HINCRBY', KEYS[1], 'rev', 1)
if ARGV[1] ~= '' then redis.call('ZADD', KEYS[2], rev, rev .. ' ' .. ARGV[1]) end
return {life, tostring(rev), tostring(ended)}`

	// The scripts of the Writer: KEYS[1] the user's list of sessions, KEYS[2] the
	// session. ARGV: the list as it was read and as it is to be, its seconds; the
	// session's value and its seconds; its value as it was read. They return 0, and
	// change nothing, where something is not as it was read.
	createScript = `
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end` + listScript + `
redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5])
return 1`

	// extendScript leaves the list alone where it is to be what it was.
	extendScript = `
if redis.call('GET', KEYS[2]) ~= ARGV[6] then return 0 end
if ARGV[1] ~= ARGV[2] then
  if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end` + listScript + `
end
redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5])
return 1`

	// relistScript does nothing for a session that is gone or was changed since.
	relistScript = `
if redis.call('GET', KEYS[2]) ~= ARGV[4] then return 1 end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end` + listScript + `
return 1`

	listScript = `
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end`
)
