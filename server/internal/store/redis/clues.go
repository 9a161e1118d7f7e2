package redis

import (
	"context"
	"fmt"
	"slices"
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
	if schema.Storable(token) && len(token) >= tokenBytes {
		if c.Prefix, err = s.prefixOf(ctx, token); c.Prefix != nil || err != nil {
			return c, err
		}
	}
	keys, err := s.sample(ctx, 1)
	c.Empty = err == nil && len(keys) == 0
	return c, err
}

// tokenBytes is the length of the issuer's tokens. What is shorter may be the end of
// another session's, which a prefix would tell the start of.
const tokenBytes = 32

var globEscapes = strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`)

// hasID reports whether a text holds an id or a token, and so is no prefix of all keys.
func hasID(text string) bool {
	notAlnum := func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }
	return slices.ContainsFunc(strings.FieldsFunc(text, notAlnum), func(run string) bool { return len(run) >= 20 })
}

// prefixOf looks for a key that ends in a token, as far as it looks.
func (s *Store) prefixOf(ctx context.Context, token string) (prefix *string, err error) {
	err = s.scan(ctx, "*"+globEscapes.Replace(token), func(key string) bool {
		if found := strings.TrimSuffix(key, token); found != s.cfg.Prefix && !hasID(found) {
			prefix = &found
		}
		return prefix == nil
	})
	return prefix, err
}

// sample returns at most so many keys of sessions, as far as it looked.
func (s *Store) sample(ctx context.Context, most int) (keys []string, err error) {
	err = s.scan(ctx, globEscapes.Replace(s.cfg.Prefix)+"*", func(key string) bool {
		if !s.cfg.reserved(strings.TrimPrefix(key, s.cfg.Prefix)) {
			keys = append(keys, key)
		}
		return len(keys) < most
	})
	return keys, err
}

// scan calls each with the keys of a pattern among the first, until it returns false.
func (s *Store) scan(ctx context.Context, pattern string, each func(key string) bool) error {
	var cursor uint64
	for range keysScanned / scanPage {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match(pattern).Count(scanPage).Build()).AsScanEntry()
		if err != nil {
			return s.failed(ctx, err)
		}
		for _, key := range page.Elements {
			if !each(key) {
				return nil
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
	return nil
}
