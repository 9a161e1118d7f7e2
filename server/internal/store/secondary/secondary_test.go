package secondary_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/secondary"
)

// held is a store that holds one record.
type held struct {
	record store.Record
	era    store.Era
	err    error
	asked  int
}

func (h *held) Lookup(_ context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	h.asked++
	if h.err != nil {
		return nil, h.err
	}
	if era != "" && era != h.era {
		return nil, &store.EraError{Got: h.era}
	}
	records := make([]store.Record, len(tokens))
	for i := range records {
		records[i] = h.record
	}
	return records, nil
}
func (h *held) Clues(context.Context, string) (store.Clues, error) { return store.Clues{}, h.err }
func (h *held) Ready(context.Context) error                        { return h.err }
func (h *held) Describe() store.Description                        { return store.Description{Driver: "held"} }
func (h *held) Close() error                                       { return nil }

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func session(expires time.Time) store.Record {
	return store.Record{Found: true, User: &store.User{ID: "u"}, Session: store.Session{
		ID: "s", UserID: "u", CreatedAt: now.Add(-time.Hour), UpdatedAt: now.Add(-time.Hour), ExpiresAt: expires,
	}}
}

// TestModes is the issuer's table, and what the strict rule takes from it.
func TestModes(t *testing.T) {
	good, over := session(now.Add(time.Hour)), session(now.Add(-time.Minute))
	ended := session(now.Add(-time.Minute))
	ended.Session.UpdatedAt = ended.Session.ExpiresAt
	shorter := session(now.Add(time.Minute))
	orphan, banned, deleted, marked := session(now.Add(time.Hour)), session(now.Add(time.Hour)), session(now.Add(time.Hour)), session(now.Add(time.Hour))
	orphan.User, banned.User, deleted.User = nil, &store.User{ID: "u", Banned: true}, &store.User{ID: "u", Deleted: true}
	marked.Revoked = true
	none := store.Record{}
	broken := store.Record{Found: true, Unreadable: "the key's value"}

	const ok = authority.ReasonNone
	for name, tt := range map[string]struct {
		key, row                  store.Record
		parity, preserved, strict authority.Reason
	}{
		"both":                      {good, good, ok, ok, ok},
		"key alone":                 {good, none, ok, ok, authority.ReasonNotFound},
		"row alone":                 {none, good, ok, authority.ReasonNotFound, ok},
		"neither":                   {none, none, authority.ReasonNotFound, authority.ReasonNotFound, authority.ReasonNotFound},
		"key over":                  {over, good, authority.ReasonExpired, authority.ReasonExpired, authority.ReasonExpired},
		"row over":                  {good, over, ok, ok, authority.ReasonExpired},
		"row alone, over":           {none, over, authority.ReasonExpired, authority.ReasonNotFound, authority.ReasonExpired},
		"row alone, ended":          {none, ended, authority.ReasonExpired, authority.ReasonRevoked, authority.ReasonExpired},
		"row ended":                 {good, ended, ok, ok, authority.ReasonExpired},
		"key not readable":          {broken, good, authority.ReasonStoredValueUnreadable, authority.ReasonStoredValueUnreadable, authority.ReasonStoredValueUnreadable},
		"row not readable":          {good, broken, ok, ok, authority.ReasonStoredValueUnreadable},
		"marked":                    {marked, good, authority.ReasonRevoked, authority.ReasonRevoked, authority.ReasonRevoked},
		"user's row gone":           {good, orphan, ok, ok, authority.ReasonUserNotFound},
		"banned in the row":         {good, banned, ok, ok, authority.ReasonUserBanned},
		"marked deleted in the row": {good, deleted, ok, ok, authority.ReasonUserDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			policy := authority.Policy{RefuseBanned: true, RefuseDeleted: true}
			for _, way := range []struct {
				name   string
				config secondary.Config
				want   authority.Reason
			}{
				{"parity", secondary.Config{Rule: secondary.Parity}, tt.parity},
				{"preserved", secondary.Config{Rule: secondary.Parity, Preserved: true}, tt.preserved},
				{"strict", secondary.Config{Rule: secondary.Strict}, tt.strict},
			} {
				way.config.First, way.config.Rows = &held{record: tt.key}, &held{record: tt.row}
				records, err := secondary.New(way.config).Lookup(t.Context(), "", []string{"t"})
				if err != nil {
					t.Fatal(err)
				}
				if got := authority.Decide(&records[0], now, policy).Reason; got != way.want {
					t.Errorf("%s: %s, want %s", way.name, got, way.want)
				}
			}
		})
	}

	first := &held{record: good}
	records, err := secondary.New(secondary.Config{First: first, Rows: &held{record: shorter}, Rule: secondary.Strict}).Lookup(t.Context(), "", []string{"t"})
	if err != nil || !records[0].Session.ExpiresAt.Equal(shorter.Session.ExpiresAt) {
		t.Errorf("strict: expires %v, %v", records[0].Session.ExpiresAt, err)
	}
	if first.record.User != good.User || first.record.User.Banned {
		t.Error("the key's record was changed")
	}
}

// TestHalf: one store that cannot be asked is nothing found out; the rows are not read
// where the key decides; eras are compared each with its own.
func TestHalf(t *testing.T) {
	away := fmt.Errorf("%w: gone", store.ErrUnavailable)
	good := session(now.Add(time.Hour))
	first, rows := &held{record: good, era: "a"}, &held{record: good, era: "b", err: away}
	s := secondary.New(secondary.Config{First: first, Rows: rows, Rule: secondary.Parity})
	if r, err := s.Lookup(t.Context(), "a/b", []string{"t"}); err != nil || !r[0].Found || rows.asked != 0 {
		t.Errorf("the key decides: %+v, %v, %d questions to the rows", r, err, rows.asked)
	}
	first.record = store.Record{}
	if _, err := s.Lookup(t.Context(), "a/b", []string{"t"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("rows away: %v", err)
	}
	first.err = away
	if _, err := s.Lookup(t.Context(), "a/b", []string{"t"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("keys away, and a row would be good: %v", err)
	}
	if c, err := s.Clues(t.Context(), "t"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("clues with both away: %+v, %v", c, err)
	}
	first.err, rows.err = nil, nil
	if c, err := s.Clues(t.Context(), "t"); err != nil || len(c.Places) != 2 || c.Places[0].Record.Found || !c.Places[1].Record.Found || c.Places[0].Driver != "held" {
		t.Errorf("clues of a row without a key: %+v, %v", c, err)
	}
	var other *store.EraError
	for _, era := range []store.Era{"x/b", "a/x"} {
		if _, err := s.Lookup(t.Context(), era, []string{"t"}); !errors.As(err, &other) {
			t.Errorf("in %s: %v", era, err)
		}
	}
	if secondary.JoinEras("", "b") != "" || secondary.JoinEras("a", "") != "" {
		t.Error("half an era is one")
	}
}
