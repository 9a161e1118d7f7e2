package redis

import (
	"context"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/store"
)

// Examiner implements [store.Examiner] for sessions that are in secondary storage
// alone. Not safe for concurrent use.
type Examiner struct {
	cfg      Config
	client   rueidis.Client
	location string
}

var _ store.Examiner = (*Examiner)(nil)

// Examine connects. An error names what is wrong and what to do about it.
func Examine(ctx context.Context, c Config) (*Examiner, error) {
	client, location, err := connect(c.URL)
	if err != nil {
		return nil, err
	}
	e := &Examiner{cfg: c, client: client, location: location}
	if _, err := e.State(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return e, nil
}

// State says how the server would keep sessions.
func (e *Examiner) State(ctx context.Context) (store.SecondaryState, error) {
	text, err := e.client.Do(ctx, e.client.B().Info().Build()).ToString()
	if err != nil {
		return store.SecondaryState{}, unavailable(e.location, err)
	}
	info := parseInfo(text)
	s := store.SecondaryState{Location: e.location, Version: info["redis_version"], Keys: "keys " + e.cfg.Prefix + "TOKEN"}
	if v := info["valkey_version"]; v != "" {
		s.Version = "Valkey " + v
	}
	if info["maxmemory"] != "0" && info["maxmemory_policy"] != "noeviction" {
		s.Evicts = info["maxmemory_policy"]
	}
	keys, err := e.sample(ctx, 1)
	s.Empty = len(keys) == 0
	return s, err
}

// sample returns some keys of sessions.
func (e *Examiner) sample(ctx context.Context, most int) ([]string, error) {
	s := Store{cfg: e.cfg, client: e.client}
	s.description.Location = e.location
	return s.sample(ctx, most)
}

// Tables implements [store.Examiner].
func (e *Examiner) Tables() store.Tables {
	return store.Tables{
		Driver: "redis", Location: e.location,
		Session: store.TableDescription{Name: "keys " + e.cfg.Prefix + "TOKEN"},
		User:    store.TableDescription{Name: "the sessions' values"},
	}
}

// Plan implements [store.Examiner]: a key is found by its name.
func (e *Examiner) Plan(context.Context) (store.Plan, error) {
	return store.Plan{Indexed: true, Detail: "a session is found by its key"}, nil
}

// Clock implements [store.Examiner].
func (e *Examiner) Clock(ctx context.Context) (time.Time, bool, error) {
	parts, err := e.client.Do(ctx, e.client.B().Time().Build()).AsIntSlice()
	if err != nil || len(parts) != 2 {
		return time.Time{}, false, unavailable(e.location, err)
	}
	return time.Unix(parts[0], parts[1]*int64(time.Microsecond)), true, nil
}

// Pooler implements [store.Examiner]: there is none that would matter.
func (e *Examiner) Pooler(context.Context) (store.Pooler, error) { return store.Pooler{}, nil }

// Beats implements [store.Examiner].
func (e *Examiner) Beats(ctx context.Context) (map[string]int64, bool, error) {
	fields, err := e.client.Do(ctx, e.client.B().Hgetall().Key(keysOf(e.cfg)[0]).Build()).AsStrMap()
	if err != nil {
		return nil, false, unavailable(e.location, err)
	}
	if len(fields) == 0 {
		return nil, false, nil
	}
	beats := map[string]int64{}
	for name, value := range fields {
		id, ok := strings.CutPrefix(name, "replica:")
		if !ok {
			continue
		}
		beat, _, _ := strings.Cut(value, " ")
		if beats[id], err = strconv.ParseInt(beat, 10, 64); err != nil {
			return nil, false, unavailable(e.location, errForm)
		}
	}
	return beats, true, nil
}

// tokenSample is how many tokens are measured.
const tokenSample = 1000

// ShortestToken implements [store.Examiner].
func (e *Examiner) ShortestToken(ctx context.Context) (length, sessions int, err error) {
	keys, err := e.sample(ctx, tokenSample)
	for _, key := range keys {
		n := utf8.RuneCountInString(strings.TrimPrefix(key, e.cfg.Prefix))
		if sessions == 0 || n < length {
			length = n
		}
		sessions++
	}
	return length, sessions, err
}

// Close implements [store.Examiner].
func (e *Examiner) Close() error {
	e.client.Close()
	return nil
}
