package redis

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// How many keys are looked at for one session, and at a time. A database whose first
// keys are all of something else counts as one without sessions.
const keysScanned, scanPage = 20_000, 500

// Clues implements [store.Store].
func (s *Store) Clues(ctx context.Context, token string) (c store.Clues, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	if s.closed.Load() {
		return c, fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	}
	if schema.Storable(token) {
		// The package's own, the one of the documentation's snippet, and the one by
		// which readers of Better Auth's sessions like to call them.
		for _, prefix := range []string{"better-auth:", "", "session:", "better-auth:session:"} {
			n, err := s.client.Do(ctx, s.client.B().Exists().Key(prefix+token).Build()).AsInt64()
			_, answered := rueidis.IsRedisErr(err)
			switch {
			case answered: // an ACL that allows our prefix alone
			case err != nil:
				return c, s.failed(ctx, err)
			case n > 0 && prefix != s.cfg.Prefix:
				c.Prefix = &prefix
				return c, nil
			}
		}
	}
	keys, err := s.sample(ctx, 1)
	c.Empty = err == nil && len(keys) == 0
	return c, err
}

// sample returns at most so many keys of sessions, as far as it looked.
func (s *Store) sample(ctx context.Context, most int) ([]string, error) {
	pattern := strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(s.cfg.Prefix) + "*"
	var keys []string
	var cursor uint64
	for range keysScanned / scanPage {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match(pattern).Count(scanPage).Build()).AsScanEntry()
		if err != nil {
			return nil, s.failed(ctx, err)
		}
		for _, key := range page.Elements {
			if !s.cfg.reserved(strings.TrimPrefix(key, s.cfg.Prefix)) {
				keys = append(keys, key)
			}
		}
		if cursor = page.Cursor; cursor == 0 || len(keys) >= most {
			break
		}
	}
	return keys[:min(len(keys), most)], nil
}
