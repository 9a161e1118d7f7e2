package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// cluesScanned bounds the keys that are looked at for one session.
const cluesScanned = 5000

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
			switch {
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
	c.Empty, err = s.empty(ctx)
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
func (s *Store) prefixOf(ctx context.Context, token string) (*string, error) {
	var cursor uint64
	for range cluesScanned / 500 {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match("*"+globEscapes.Replace(token)).Count(500).Build()).AsScanEntry()
		if err != nil {
			return nil, s.failed(ctx, err)
		}
		for _, key := range page.Elements {
			if prefix := strings.TrimSuffix(key, token); prefix != s.cfg.Prefix && !hasID(prefix) {
				return &prefix, nil
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			break
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// empty reports whether no key is of a session, as far as it looked.
func (s *Store) empty(ctx context.Context) (bool, error) {
	pattern := globEscapes.Replace(s.cfg.Prefix) + "*"
	var cursor uint64
	for range cluesScanned / 500 {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match(pattern).Count(500).Build()).AsScanEntry()
		if err != nil {
			return false, s.failed(ctx, err)
		}
		for _, key := range page.Elements {
			if !s.cfg.reserved(strings.TrimPrefix(key, s.cfg.Prefix)) {
				return false, nil
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return true, nil
		}
	}
	return false, nil
}
