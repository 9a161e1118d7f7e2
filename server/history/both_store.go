package history

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"
)

// bothStores keeps sessions as keys and as rows beside them, as an issuer with
// secondaryStorage and storeSessionInDatabase. A key decides where there is one, and
// else the row; by the strict rule, both have to hold the session.
type bothStores struct {
	keys   *redisStore
	rows   *postgresStore
	strict bool
}

func newBothStores(strict bool) *bothStores {
	return &bothStores{keys: &redisStore{link: 0}, rows: &postgresStore{issuer: &issuer{}, link: 1}, strict: strict}
}

func (b *bothStores) start(ctx context.Context, r *run) error {
	if err := b.keys.start(ctx, r); err != nil {
		return err
	}
	return b.rows.start(ctx, r)
}

func (b *bothStores) remove() error { return errors.Join(b.keys.remove(), b.rows.remove()) }

func (b *bothStores) addresses() []string {
	return slices.Concat(b.keys.addresses(), b.rows.addresses())
}

func (b *bothStores) settings(links []string, name string) (flags, env []string) {
	keyFlags, keyEnv := b.keys.settings(links, name)
	rowFlags, rowEnv := b.rows.settings(links, name)
	flags = slices.Concat(keyFlags, rowFlags, []string{"--secondary-store-in-database"})
	if b.strict {
		flags = append(flags, "--policy-disagreement=strict")
	}
	return flags, slices.Concat(keyEnv, rowEnv)
}

func (b *bothStores) signIn(ctx context.Context, user string, ids, tokens []string) error {
	if err := b.keys.signIn(ctx, user, ids, tokens); err != nil {
		return err
	}
	return b.rows.signIn(ctx, user, ids, tokens)
}

func (b *bothStores) updateUser(ctx context.Context, g *group, version string) error {
	if err := b.rows.updateUser(ctx, g, version); err != nil {
		return err
	}
	return b.keys.updateUser(ctx, g, version)
}

func (b *bothStores) updateSessions(ctx context.Context, g *group, version string) error {
	if err := b.rows.updateSessions(ctx, g, version); err != nil {
		return err
	}
	return b.keys.updateSessions(ctx, g, version)
}

// good implements storage. What has ended in a store does not come back while this
// looks, so one look after the other is as good as one.
func (b *bothStores) good(ctx context.Context, ids, tokens []string) (map[string]row, error) {
	good, none, err := b.keys.held(ctx, ids, tokens)
	if err != nil {
		return nil, err
	}
	rows, err := b.rows.good(ctx, ids, tokens)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		held, there := rows[id]
		key, inKey := good[id]
		switch {
		case none[id] && there:
			good[id] = held
		case inKey && there:
			// When the key goes the row shows what it holds, which may be less.
			good[id] = row{user: min(key.user, held.user), session: min(key.session, held.session)}
		case b.strict && inKey:
			delete(good, id)
		}
	}
	return good, nil
}

// delete deletes keys and rows, in the issuer's order.
func (b *bothStores) delete(ctx context.Context, r *run, targets []*session) error {
	return b.steps(r, func() error { return b.keys.delete(ctx, r, targets) },
		func() error { return b.rows.exec(ctx, deleteSessions, idsOf(targets)) })
}

// steps runs the parts of an ending that ends nothing but as a whole. No store loses
// one of them before the other is acknowledged.
func (b *bothStores) steps(r *run, steps ...func() error) error {
	r.calm.RLock()
	defer r.calm.RUnlock()
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// endKeys changes the keys that are there, so that they end their sessions, in one
// step. Where a key was lost the row alone decides, and goes.
func (b *bothStores) endKeys(ctx context.Context, targets []*session, change string, args ...string) error {
	script := `local gone = {}
for i = 1, #KEYS do
  local v = redis.call('GET', KEYS[i])
  if v then ` + change + ` else gone[#gone + 1] = i end
end
return gone`
	gone, err := b.keys.do(ctx, slices.Concat([]string{"EVAL", script, strconv.Itoa(len(targets))}, sessionKeys(targets), args)...).AsIntSlice()
	if err != nil || len(gone) == 0 {
		return err
	}
	var ids []string
	for _, n := range gone {
		ids = append(ids, targets[n-1].id)
	}
	return b.rows.exec(ctx, deleteSessions, ids)
}

// endings implements storage.
func (b *bothStores) endings() []ending {
	both := func(ctx context.Context, r *run, _ *group, targets []*session) error {
		return b.delete(ctx, r, targets)
	}
	over := func(ctx context.Context, _ *run, _ *group, targets []*session) error {
		return b.endKeys(ctx, targets, `redis.call('SET', KEYS[i], (string.gsub(v, '"expiresAt":"[^"]*"', '"expiresAt":"2001-01-01T00:00:00.000Z"')), 'KEEPTTL')`)
	}
	endings := append([]ending{
		{name: "key deleted, then row", size: 2, weight: 8, before: 1, targets: first, do: both},
		{name: "row deleted, then key", size: 2, weight: 4, before: 1, targets: first, do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
			return b.steps(r, func() error { return b.rows.exec(ctx, deleteSessions, idsOf(targets)) },
				func() error { return b.keys.delete(ctx, r, targets) })
		}},
		{name: "key deleted, row's commit late", size: 2, weight: 3, before: 1, targets: first, do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
			return b.steps(r, func() error { return b.keys.delete(ctx, r, targets) },
				func() error { return b.rows.transaction(ctx, "", r.late(), deleteSessions, idsOf(targets)) })
		}},
		{name: "both deleted, many", size: 40, weight: 1, before: 1, targets: all, do: both},
		{name: "value's expiry, the row stays", size: 1, weight: 3, targets: all, do: over},
		{name: "value's expiry just before a crash", size: 1, weight: 3, brink: true, targets: all, do: over},
		{name: "user's mark, the rows stay", size: 2, weight: 3, targets: all, do: func(ctx context.Context, _ *run, g *group, _ []*session) error {
			return b.endKeys(ctx, g.sessions, `redis.call('SET', ARGV[1], ARGV[2], 'EX', 604800)`,
				keyPrefix+"revoked-sessions-before-"+g.user, strconv.FormatInt(time.Now().Add(time.Second).UnixMilli(), 10))
		}},
	}, revocations(b.delete)...)
	if !b.strict {
		return endings // a row alone decides nothing while there is a key
	}
	return append(endings,
		ending{name: "row deleted, the key stays", size: 2, weight: 5, targets: first, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return b.rows.exec(ctx, deleteSessions, idsOf(targets))
		}},
		ending{name: "row deleted just before a crash, the key stays", size: 1, weight: 3, brink: true, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return b.rows.transaction(ctx, "SET LOCAL synchronous_commit = off", 0, deleteSessions, idsOf(targets))
		}},
		ending{name: "row's expiry, the key stays", size: 1, weight: 3, targets: all, do: func(ctx context.Context, _ *run, _ *group, targets []*session) error {
			return b.rows.exec(ctx, `UPDATE session SET "expiresAt" = '2001-01-01' WHERE id = ANY ($1)`, idsOf(targets))
		}},
		ending{name: "user's row banned, the keys stay", size: 2, weight: 3, targets: all, do: func(ctx context.Context, _ *run, g *group, _ []*session) error {
			return b.rows.exec(ctx, `UPDATE "user" SET banned = true WHERE id = $1`, g.user)
		}},
	)
}

func (b *bothStores) crowd() ending {
	return ending{name: "both of a crowd deleted", size: 1200, before: 1, targets: all, do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
		return b.delete(ctx, r, targets)
	}}
}

// faults implements storage: those of either.
func (b *bothStores) faults() []fault {
	var out []fault
	for prefix, faults := range map[string][]fault{"keys-": b.keys.faults(), "rows-": b.rows.faults()} {
		for _, f := range faults {
			f.name = prefix + f.name
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(x, y fault) int { return cmp.Compare(x.name, y.name) }) // the seed says which comes when
	return out
}
