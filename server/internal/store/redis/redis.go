// Package redis reads sessions from the issuer's secondary storage, a Redis or a
// Valkey, as Better Auth writes them there: a value of JSON under each token.
//
// Sources: packages/better-auth/src/db/internal-adapter.ts and
// packages/redis-storage of better-auth.
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/issued"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

const (
	openTimeout = 15 * time.Second
	// lookupTimeout bounds each Lookup and Ready, so that a silent server is found out.
	lookupTimeout = time.Second
	dialTimeout   = 2 * time.Second
)

// Names of the issuer's other keys, after the prefix.
const (
	revokedPrefix = "revoked-sessions-before-"
	activePrefix  = "active-sessions-"
)

// Config says where the sessions are.
type Config struct {
	// URL is redis://, rediss:// or unix://, password included. Never log it.
	URL string
	// Prefix is in front of the issuer's keys: "better-auth:" with
	// @better-auth/redis-storage, nothing with the snippet of the documentation.
	Prefix string
	// RevokedMarks says that the issuer marks users whose sessions have all ended
	// (Better Auth 1.7 on): older sessions are refused whatever their keys say.
	RevokedMarks bool
	// SoftDeleteField names a field of the user that marks deleted users; empty: none.
	SoftDeleteField string
	// HideSession and HideUser list fields that are never returned.
	HideSession, HideUser []string
}

// Store reads sessions. It is safe for concurrent use.
type Store struct {
	cfg         Config
	client      rueidis.Client
	decoder     decoder
	description store.Description
	closed      atomic.Bool
}

var _ store.Store = (*Store)(nil)

// Open connects and checks that this is a server that can be used. The caller must
// Close the store. An error names what is wrong and what to do about it.
func Open(ctx context.Context, c Config) (*Store, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	client, location, err := connect(c.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: c, client: client,
		decoder: decoder{issued.Decoder{SoftDelete: c.SoftDeleteField, HideSession: setOf(c.HideSession), HideUser: setOf(c.HideUser)}},
		description: store.Description{
			Driver: "redis", Location: location,
			Session: store.TableDescription{Name: "keys " + c.Prefix + "TOKEN"},
			User:    store.TableDescription{Name: "the user in the session's value"},
		},
	}
	if err := s.check(opening); err != nil {
		client.Close()
		return nil, err
	}
	return s, nil
}

// connect dials a server. The location is what may be shown of the URL.
func connect(url string) (client rueidis.Client, location string, err error) {
	o, err := rueidis.ParseURL(url)
	if err != nil {
		// The parser's text may repeat the URL, and a password with it.
		return nil, "", errors.New("secondary.url: not a URL like redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… or unix:///SOCKET")
	}
	o.ForceSingleClient, o.DisableCache = true, true
	o.Dialer.Timeout = dialTimeout
	o.ConnWriteTimeout = 2 * lookupTimeout
	o.ClientName = "sessiond"
	location = fmt.Sprintf("%s, database %d", strings.Join(o.InitAddress, ", "), o.SelectDB)
	if client, err = rueidis.NewClient(o); err != nil {
		return nil, location, unavailable(location, err)
	}
	return client, location, nil
}

// check refuses servers that answer something else than the issuer's own writes.
func (s *Store) check(ctx context.Context) error {
	text, err := s.client.Do(ctx, s.client.B().Info().Build()).ToString()
	if err != nil {
		return unavailable(s.description.Location, err)
	}
	info := parseInfo(text)
	switch {
	case info["cluster_enabled"] == "1":
		return fmt.Errorf("redis %s runs in cluster mode, which is not supported: its change feed would be one of each node", s.description.Location)
	case info["role"] != "master":
		return fmt.Errorf("redis %s is a replica: name the primary in secondary.url", s.description.Location)
	case info["master_replid"] == "":
		return fmt.Errorf("redis %s tells no replication id (INFO replication): Redis 6 or Valkey 7.2 or newer is wanted, and the right to run INFO", s.description.Location)
	}
	return nil
}

// parseInfo reads INFO's answer.
func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[key] = value
		}
	}
	return info
}

// eraOf is the era of a primary: its replication id, which is new after every start
// and every promotion. Empty: it is no primary.
func eraOf(info string) store.Era {
	m := parseInfo(info)
	if m["role"] != "master" {
		return ""
	}
	return store.Era(m["master_replid"])
}

// Lookup implements [store.Store].
func (s *Store) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	keys, at := make([]string, 0, len(tokens)), make([]int, 0, len(tokens))
	for i, t := range tokens {
		if schema.Storable(t) && !s.cfg.reserved(t) {
			keys, at = append(keys, s.cfg.Prefix+t), append(at, i)
		}
	}
	records := make([]store.Record, len(tokens))
	values, err := s.get(ctx, era, keys)
	if err != nil {
		return nil, err
	}
	for n, v := range values {
		if v != nil && *v != "" { // an empty value is as none for the issuer
			records[at[n]] = s.decoder.record(*v)
		}
	}
	if s.cfg.RevokedMarks {
		if err := s.mark(ctx, era, records); err != nil {
			return nil, err
		}
		if err := s.confirm(ctx, era, tokens, records); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// confirm looks again for the keys of what a mark has revoked. The mark may have come
// together with the end of the key, after that was read: then the session is not here,
// and a row beside it may still be good. Refusing it by the mark would be no state
// that the store was ever in.
func (s *Store) confirm(ctx context.Context, era store.Era, tokens []string, records []store.Record) error {
	var keys []string
	var at []int
	for i := range records {
		if records[i].Revoked {
			keys, at = append(keys, s.cfg.Prefix+tokens[i]), append(at, i)
		}
	}
	values, err := s.get(ctx, era, keys)
	if err != nil {
		return err
	}
	for n, v := range values {
		if v == nil {
			records[at[n]] = store.Record{}
		}
	}
	return nil
}

// reserved reports whether a token would name one of the issuer's other keys or
// of ours. They hold no session.
func (c Config) reserved(token string) bool {
	return strings.HasPrefix(token, activePrefix) || strings.HasPrefix(token, revokedPrefix) || strings.HasPrefix(c.Prefix+token, feedPrefix)
}

// mark sets Revoked where the user's sessions were ended after a session began.
func (s *Store) mark(ctx context.Context, era store.Era, records []store.Record) error {
	var keys []string
	var at []int
	for i := range records {
		if r := &records[i]; r.Found && r.Unreadable == "" {
			keys, at = append(keys, s.cfg.Prefix+revokedPrefix+r.Session.UserID), append(at, i)
		}
	}
	values, err := s.get(ctx, era, keys)
	if err != nil {
		return err
	}
	for n, v := range values {
		if v == nil {
			continue
		}
		if before, ok := number(*v); ok && float64(records[at[n]].Session.CreatedAt.UnixMilli()) < before {
			records[at[n]].Revoked = true
		}
	}
	return nil
}

// otherType stands for what a key holds that is no text. The issuer's own reading of
// it fails, and so does ours.
const otherType = "a value of another type"

// get reads keys and the era. Each is asked for by itself, as the issuer does: MGET
// would tell a key of another type as one that is not there.
func (s *Store) get(ctx context.Context, era store.Era, keys []string) ([]*string, error) {
	if s.closed.Load() {
		return nil, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	if len(keys) == 0 {
		return nil, ctx.Err()
	}
	b := s.client.B()
	commands := make([]rueidis.Completed, len(keys))
	for i, key := range keys {
		commands[i] = b.Get().Key(key).Build()
	}
	results, got, err := allInEra(ctx, s.client.DoMulti, b, commands...)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	// The life of the feed's keys, after the dot, is the feed's business.
	if want, _, _ := strings.Cut(string(era), "."); got == "" || want != "" && got != store.Era(want) {
		return nil, &store.EraError{Got: got}
	}
	values := make([]*string, len(results))
	for i := range results {
		text, err := results[i].ToString()
		answered, isAnswer := rueidis.IsRedisErr(err)
		switch {
		case rueidis.IsRedisNil(err):
			continue
		case isAnswer && strings.HasPrefix(answered.Error(), "WRONGTYPE"):
			text = otherType
		case err != nil:
			return nil, s.failed(ctx, err)
		}
		values[i] = &text
	}
	return values, nil
}

func (s *Store) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("session lookup: %w", ctx.Err())
	}
	return unavailable(s.description.Location, err)
}

// unavailable hides the driver's error behind its text.
func unavailable(location string, err error) error {
	return fmt.Errorf("%w: redis %s: %s: check secondary.url, the network and the server", store.ErrUnavailable, location, textOf(err))
}

// textOf is what may be told of the server's complaint. One about a command that it
// does not know repeats the arguments, which hold tokens.
func textOf(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", with args")
	return text
}

// Ready implements [store.Store].
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if s.closed.Load() {
		return fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	info, err := s.client.Do(ctx, s.client.B().Info().Section("replication").Build()).ToString()
	switch {
	case err != nil:
		return unavailable(s.description.Location, err)
	case eraOf(info) == "":
		return fmt.Errorf("%w: redis %s is a replica now: name the primary in secondary.url", store.ErrUnavailable, s.description.Location)
	}
	return nil
}

// Describe implements [store.Store].
func (s *Store) Describe() store.Description { return s.description }

// Close implements [store.Store].
func (s *Store) Close() error {
	if !s.closed.Swap(true) {
		s.client.Close()
	}
	return nil
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}
