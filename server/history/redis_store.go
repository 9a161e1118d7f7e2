package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/history/proxy"
)

// keyPrefix is that of @better-auth/redis-storage.
const keyPrefix = "better-auth:"

// redisServer is one Redis and its folder.
type redisServer struct {
	*program
	home, address string
}

// redisStore keeps sessions in a Redis alone, a primary that a replica follows
// through a link.
type redisStore struct {
	primary, replica *redisServer
	following        *proxy.Link // from the replica to the primary
	link             int         // of each authority to the primary
	client           atomic.Pointer[rueidis.Client]
	former           []rueidis.Client
}

func (s *redisStore) start(ctx context.Context, _ *run) (err error) {
	if s.primary, err = s.launch(ctx); err != nil {
		return err
	}
	if s.following, err = proxy.New(s.primary.address); err != nil {
		return err
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	return s.addReplica(ctx)
}

// launch starts a server in a folder of its own.
func (s *redisStore) launch(ctx context.Context, options ...string) (*redisServer, error) {
	home, err := os.MkdirTemp("", "history-redis-")
	if err != nil {
		return nil, err
	}
	server := &redisServer{home: home}
	if server.address, err = freeAddress(); err != nil {
		return server, err
	}
	return server, server.run(ctx, options...)
}

// run starts the server. What was acknowledged is in its log before the answer, and
// outlives the process.
func (s *redisServer) run(ctx context.Context, options ...string) error {
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		return err
	}
	args := append([]string{"--bind", host, "--port", port, "--dir", s.home, "--save", "", "--appendonly", "yes", "--appendfsync", "no",
		"--enable-debug-command", "local", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, options...)
	if s.program, err = launch("redis", exec.Command("redis-server", args...)); err != nil {
		return fmt.Errorf("%w: redis-server is wanted (make prepare installs it)", err)
	}
	return await(ctx, readyTimeout, "redis answers", func(ctx context.Context) error {
		client, err := dialRedis(s.address)
		if err != nil {
			return err
		}
		defer client.Close()
		return client.Do(ctx, client.B().Ping().Build()).Error()
	})
}

func dialRedis(address string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, ConnWriteTimeout: statementTimeout})
}

// connect has all further commands go to the primary.
func (s *redisStore) connect(ctx context.Context) error {
	return await(ctx, readyTimeout, "the issuer reaches redis", func(context.Context) error {
		client, err := dialRedis(s.primary.address)
		if err != nil {
			return err
		}
		if old := s.client.Swap(&client); old != nil {
			s.former = append(s.former, *old)
		}
		return nil
	})
}

func (s *redisStore) addReplica(ctx context.Context) (err error) {
	host, port, err := net.SplitHostPort(s.following.Address())
	if err != nil {
		return err
	}
	if s.replica, err = s.launch(ctx, "--replicaof", host, port); err != nil {
		return err
	}
	return await(ctx, readyTimeout, "the replica follows", func(ctx context.Context) error {
		client, err := dialRedis(s.replica.address)
		if err != nil {
			return err
		}
		defer client.Close()
		role, err := client.Do(ctx, client.B().Role().Build()).ToArray()
		if err != nil || len(role) < 4 {
			return errors.Join(errors.New("the replica tells no role"), err)
		}
		if state, err := role[3].ToString(); err != nil || state != "connected" {
			return fmt.Errorf("the replica is %q: %w", state, errors.Join(err, errNotYet))
		}
		return nil
	})
}

var errNotYet = errors.New("not yet")

func (s *redisStore) remove() error {
	for _, c := range s.former {
		c.Close()
	}
	if c := s.client.Swap(nil); c != nil {
		(*c).Close()
	}
	var err error
	for _, server := range []*redisServer{s.replica, s.primary} {
		if server == nil {
			continue
		}
		if server.program != nil {
			err = errors.Join(err, server.end(syscall.SIGKILL))
		}
		err = errors.Join(err, os.RemoveAll(server.home))
	}
	if s.following != nil {
		err = errors.Join(err, s.following.Close())
	}
	return err
}

func (s *redisStore) addresses() []string { return []string{s.primary.address} }

func (s *redisStore) settings(links []string, _ string) (flags, env []string) {
	return []string{"--secondary-key-prefix=" + keyPrefix}, []string{"SESSIOND_SECONDARY_URL=redis://" + links[s.link] + "/0"}
}

// do runs a command at the primary that there is.
func (s *redisStore) do(ctx context.Context, args ...string) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	defer cancel()
	c := *s.client.Load()
	return c.Do(ctx, c.B().Arbitrary(args[0]).Args(args[1:]...).Build())
}

// script runs a script on keys.
func (s *redisStore) script(ctx context.Context, text string, keys []string, args ...string) error {
	err := s.do(ctx, slices.Concat([]string{"EVAL", text + "\nreturn 1", strconv.Itoa(len(keys))}, keys, args)...).Error()
	if err != nil {
		return fmt.Errorf("script: %w", err)
	}
	return nil
}

func keysOf(tokens []string) []string {
	out := make([]string, len(tokens))
	for i, t := range tokens {
		out[i] = keyPrefix + t
	}
	return out
}

func sessionKeys(sessions []*session) []string {
	out := make([]string, len(sessions))
	for i, s := range sessions {
		out[i] = keyPrefix + s.token
	}
	return out
}

const (
	redisLifetime = 7 * 24 * time.Hour
	redisTime     = "2006-01-02T15:04:05.000Z"
)

// signIn implements storage. A key that is there stays: signing in again would bring
// back what has ended since.
func (s *redisStore) signIn(ctx context.Context, user string, ids, tokens []string) error {
	now := time.Now().UTC()
	list := make([]map[string]any, len(ids))
	args := make([]string, 0, 2+len(ids))
	for i, id := range ids {
		list[i] = map[string]any{"token": tokens[i], "expiresAt": now.Add(redisLifetime).UnixMilli()}
		args = append(args, fmt.Sprintf(`{"session":{"id":%q,"userId":%q,"token":%q,"createdAt":%q,"updatedAt":%q,"expiresAt":%q,"ipAddress":"","userAgent":"v0"},"user":{"id":%q,"name":"v0","email":%q,"emailVerified":true,"image":null,"createdAt":%q,"updatedAt":%q,"banned":false}}`,
			id, user, tokens[i], now.Format(redisTime), now.Format(redisTime), now.Add(redisLifetime).Format(redisTime), user, user+"@example.com", now.Format(redisTime), now.Format(redisTime)))
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return s.script(ctx, `for i = 2, #KEYS do redis.call('SET', KEYS[i], ARGV[i], 'NX', 'EX', 604800) end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', 604800)`, append([]string{keyPrefix + "active-sessions-" + user}, keysOf(tokens)...), append([]string{string(text)}, args...)...)
}

// rewrite changes a part of the values that are there, each in one step: a value that
// was read and written back could bring back what has ended meanwhile.
func (s *redisStore) rewrite(ctx context.Context, keys []string, pattern, by string) error {
	return s.script(ctx, `for i = 1, #KEYS do
  local v = redis.call('GET', KEYS[i])
  if v then redis.call('SET', KEYS[i], (string.gsub(v, ARGV[1], ARGV[2])), 'KEEPTTL') end
end`, keys, pattern, by)
}

func (s *redisStore) updateUser(ctx context.Context, g *group, version string) error {
	return s.rewrite(ctx, sessionKeys(g.sessions), `"name":"v%d+"`, `"name":"`+version+`"`)
}

func (s *redisStore) updateSessions(ctx context.Context, g *group, version string) error {
	return s.rewrite(ctx, sessionKeys(g.sessions), `"userAgent":"v%d+"`, `"userAgent":"`+version+`"`)
}

// good implements storage.
func (s *redisStore) good(ctx context.Context, ids, tokens []string) (map[string]row, error) {
	good, _, err := s.held(ctx, ids, tokens)
	return good, err
}

// held returns those of the sessions that are held as good, and those that have no
// key, by id.
func (s *redisStore) held(ctx context.Context, ids, tokens []string) (out map[string]row, none map[string]bool, err error) {
	out, none = map[string]row{}, map[string]bool{}
	if len(tokens) == 0 {
		return out, none, nil
	}
	messages, err := s.do(ctx, append([]string{"MGET"}, keysOf(tokens)...)...).ToArray()
	if err != nil {
		return nil, nil, fmt.Errorf("ask the store what it holds: %w", err)
	}
	marks := map[string]float64{}
	for i := range messages {
		text, err := messages[i].ToString()
		if rueidis.IsRedisNil(err) {
			none[ids[i]] = true
			continue
		}
		var v struct {
			Session struct {
				UserID, UserAgent    string
				CreatedAt, ExpiresAt time.Time
			}
			User struct {
				Name   string
				Banned bool
			}
		}
		if err != nil {
			return nil, nil, err
		}
		if json.Unmarshal([]byte(text), &v) != nil {
			continue // one of the endings
		}
		mark, known := marks[v.Session.UserID]
		if !known {
			if mark, err = s.do(ctx, "GET", keyPrefix+"revoked-sessions-before-"+v.Session.UserID).AsFloat64(); err != nil && !rueidis.IsRedisNil(err) {
				return nil, nil, err
			}
			marks[v.Session.UserID] = mark
		}
		if v.User.Banned || !v.Session.ExpiresAt.After(time.Now()) || float64(v.Session.CreatedAt.UnixMilli()) < mark {
			continue
		}
		user, err := strconv.ParseInt(v.User.Name[1:], 10, 32)
		if err != nil {
			return nil, nil, err
		}
		session, err := strconv.ParseInt(v.Session.UserAgent[1:], 10, 32)
		if err != nil {
			return nil, nil, err
		}
		out[ids[i]] = row{user: int32(user), session: int32(session)}
	}
	return out, none, nil
}

func (s *redisStore) delete(ctx context.Context, _ *run, targets []*session) error {
	return s.do(ctx, append([]string{"DEL"}, sessionKeys(targets)...)...).Error()
}

// endings implements storage.
func (s *redisStore) endings() []ending {
	remove := func(ctx context.Context, r *run, _ *group, targets []*session) error {
		return s.delete(ctx, r, targets)
	}
	return append([]ending{
		{name: "key deleted", size: 2, weight: 10, targets: first, do: remove},
		{name: "keys deleted one by one", size: 4, weight: 3, targets: allButLast, do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
			for n := range targets {
				if err := s.delete(ctx, r, targets[n:n+1]); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "key unlinked just before a crash", size: 1, weight: 4, brink: true, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return s.do(ctx, append([]string{"UNLINK"}, sessionKeys(targets)...)...).Error()
		}},
		{name: "keys deleted, many", size: 40, weight: 1, targets: all, do: remove},
		{name: "value's expiry", size: 1, weight: 4, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return s.rewrite(ctx, sessionKeys(targets), `"expiresAt":"[^"]*"`, `"expiresAt":"2001-01-01T00:00:00.000Z"`)
		}},
		{name: "value replaced by none", size: 1, weight: 2, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return s.do(ctx, "SET", keyPrefix+targets[0].token, "gone").Error()
		}},
		{name: "key renamed", size: 1, weight: 2, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return s.script(ctx, `if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[1] .. '-gone') end`, sessionKeys(targets))
		}},
		{name: "banned in the values", size: 2, weight: 3, targets: all, do: func(ctx context.Context, _ *run, g *group, _ []*session) error {
			return s.rewrite(ctx, sessionKeys(g.sessions), `"banned":false`, `"banned":true`)
		}},
		{name: "user's mark", size: 2, weight: 4, targets: all, do: func(ctx context.Context, _ *run, g *group, _ []*session) error {
			return s.do(ctx, "SET", keyPrefix+"revoked-sessions-before-"+g.user, strconv.FormatInt(time.Now().Add(time.Second).UnixMilli(), 10), "EX", "604800").Error()
		}},
	}, revocations(s.delete)...)
}

func (s *redisStore) crowd() ending {
	return ending{name: "keys of a crowd deleted", size: 1200, targets: all, do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
		return s.delete(ctx, r, targets)
	}}
}

// faults implements storage.
func (s *redisStore) faults() []fault {
	return []fault{
		{"feed-drop", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			return "all connections", i.insist(ctx, func() error { return s.do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Error() })
		}},
		{"store-restart", storeLane, func(ctx context.Context, _ *injector, _ time.Duration) (string, error) {
			return "", s.restart(context.WithoutCancel(ctx), syscall.SIGTERM)
		}},
		{"store-crash", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			ctx = context.WithoutCancel(ctx)
			return i.losing(ctx, func() error {
				i.reachBrink()
				if err := pause(ctx, 3*time.Millisecond+time.Duration(i.chance.Int64N(int64(12*time.Millisecond)))); err != nil {
					return err
				}
				return s.restart(ctx, syscall.SIGKILL)
			})
		}},
		{"failover", storeLane, s.failover},
		{"store-busy", storeLane, func(ctx context.Context, _ *injector, d time.Duration) (string, error) {
			// One command that holds up all others, as a slow script would.
			return "", s.do(context.WithoutCancel(ctx), "DEBUG", "SLEEP", strconv.FormatFloat((d/3).Seconds(), 'f', 3, 64)).Error()
		}},
		{"feed-forgotten", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			// What an eviction of one of sessiond's own keys would do.
			key := "sessiond:{" + keyPrefix + "}" + [...]string{"", ":events"}[i.chance.IntN(2)]
			return key, i.insist(ctx, func() error { return s.do(ctx, "DEL", key).Error() })
		}},
	}
}

func (s *redisStore) restart(ctx context.Context, sig syscall.Signal) error {
	if err := s.primary.end(sig); err != nil {
		return err
	}
	return s.primary.run(ctx)
}

// failover promotes a replica that lacks the last commands.
func (s *redisStore) failover(ctx context.Context, i *injector, _ time.Duration) (string, error) {
	s.following.Hold(proxy.Down)
	_ = pause(ctx, time.Duration(i.chance.Int64N(int64(i.Bound)*2/5)))
	ctx = context.WithoutCancel(ctx)
	what, err := i.losing(ctx, func() error {
		if err := s.primary.end(syscall.SIGKILL); err != nil {
			return err
		}
		old := s.primary
		s.primary, s.replica = s.replica, nil
		if err := s.connect(ctx); err != nil {
			return err
		}
		if err := s.do(ctx, "REPLICAOF", "NO", "ONE").Error(); err != nil {
			return err
		}
		s.following.Retarget(s.primary.address)
		for _, a := range i.authorities {
			a.stores[s.link].Retarget(s.primary.address)
		}
		return os.RemoveAll(old.home)
	})
	s.following.Heal()
	return what, errors.Join(err, s.addReplica(ctx))
}
