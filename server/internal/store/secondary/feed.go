package secondary

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Keys is the change feed of the secondary storage alone, without a registry.
type Keys interface {
	// Begin takes a new position.
	Begin(ctx context.Context) (feed.News, error)
	// Poll reads what has changed since a position. It is all that was committed
	// before it was sent.
	Poll(ctx context.Context, from feed.Position) (feed.News, error)
	// Forget drops what only positions before one would read.
	Forget(before feed.Position) error
	// End deletes the keys of sessions, as the issuer does, and tells nobody.
	End(ctx context.Context, target feed.Target) (feed.Revoked, error)
	// Era reads which life of which server answers now.
	Era(ctx context.Context) (store.Era, error)
	Revision(ctx context.Context) (feed.Revision, error)
	Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error)
	Close() error
}

// Feed is the change feed of sessions in both stores. The registry and the events of
// sessiond's own revocations are the rows'; each read goes to both, the rows first,
// so that a proof is as old as the older of the two (X3). Positions, eras and
// revisions are pairs.
type Feed struct {
	keys   Keys
	rows   feed.Source
	ending feed.Ending
}

var _ feed.Source = (*Feed)(nil)

// NewFeed joins two feeds, which it closes. ending says what becomes of rows.
func NewFeed(keys Keys, rows feed.Source, ending feed.Ending) *Feed { return &Feed{keys, rows, ending} }

// pair joins what belongs to the keys and what belongs to the rows.
func pair(keys, rows string) string { return keys + "/" + rows }

func split(text string) (keys, rows string, err error) {
	keys, rows, ok := strings.Cut(text, "/")
	if !ok {
		return "", "", fmt.Errorf("%q is not of a feed of two stores", text)
	}
	return keys, rows, nil
}

// Register implements [feed.Source].
func (f *Feed) Register(ctx context.Context, bound time.Duration) (feed.Registration, error) {
	begun, err := f.keys.Begin(ctx)
	if err != nil {
		return feed.Registration{}, err
	}
	reg, err := f.rows.Register(ctx, bound)
	if err != nil {
		return feed.Registration{}, err
	}
	reg.News = join(reg.News, begun)
	return reg, nil
}

// join adds what the keys brought to what the rows brought before.
func join(rows, keys feed.News) feed.News {
	rows.Era = JoinEras(keys.Era, rows.Era)
	rows.Position = feed.Position(pair(string(keys.Position), string(rows.Position)))
	rows.Events = append(rows.Events, keys.Events...)
	rows.Overflow = rows.Overflow || keys.Overflow
	return rows
}

// Poll implements [feed.Source].
func (f *Feed) Poll(ctx context.Context, from feed.Position) (feed.News, error) {
	keysFrom, rowsFrom, err := split(string(from))
	if err != nil {
		return feed.News{}, err
	}
	rows, err := f.rows.Poll(ctx, feed.Position(rowsFrom))
	if err != nil {
		return feed.News{}, err
	}
	keys, err := f.keys.Poll(ctx, feed.Position(keysFrom))
	if err != nil {
		return feed.News{}, err
	}
	return join(rows, keys), nil
}

// Beat implements [feed.Source].
func (f *Feed) Beat(ctx context.Context, b feed.Beat) (feed.News, error) {
	keysFrom, rowsFrom, err := split(string(b.From))
	if err != nil {
		return feed.News{}, err
	}
	keysWritten, rowsWritten, err := split(string(b.Written))
	if err != nil {
		return feed.News{}, err
	}
	_, done, err := split(string(b.Done))
	if err != nil {
		return feed.News{}, err
	}
	b.From, b.Written, b.Done = feed.Position(rowsFrom), feed.Position(rowsWritten), feed.Position(done)
	_, b.DoneEra = SplitEra(b.DoneEra)
	rows, err := f.rows.Beat(ctx, b)
	if err != nil {
		return feed.News{}, err
	}
	keys, err := f.keys.Poll(ctx, feed.Position(keysFrom))
	if err != nil {
		return feed.News{}, err
	}
	if err := f.keys.Forget(feed.Position(keysWritten)); err != nil {
		return feed.News{}, err
	}
	return join(rows, keys), nil
}

// Replicas implements [feed.Source]. The keys' era is read with it: a Revoke may not
// return when their server is another than that which took its deletion (V5).
func (f *Feed) Replicas(ctx context.Context, own string, acked int64) (feed.Registry, error) {
	registry, err := f.rows.Replicas(ctx, own, acked)
	if err != nil {
		return feed.Registry{}, err
	}
	keys, err := f.keys.Era(ctx)
	if err != nil {
		return feed.Registry{}, err
	}
	registry.Era = JoinEras(keys, registry.Era)
	for i := range registry.Replicas {
		r := &registry.Replicas[i]
		r.Done, r.DoneEra = feed.Position(pair("", string(r.Done))), store.Era(pair("", string(r.DoneEra)))
	}
	return registry, nil
}

// Exclude implements [feed.Source].
func (f *Feed) Exclude(ctx context.Context, id string, beat int64) (bool, error) {
	return f.rows.Exclude(ctx, id, beat)
}

// Clean implements [feed.Source].
func (f *Feed) Clean(ctx context.Context) error { return f.rows.Clean(ctx) }

// Revoke implements [feed.Source]. The keys go first and the rows tell of it, so that
// whoever hears of it and asks anew finds neither (S3).
func (f *Feed) Revoke(ctx context.Context, target feed.Target) (feed.Revoked, error) {
	target.Ending = f.ending
	ended, err := f.keys.End(ctx, target)
	if err != nil {
		return feed.Revoked{}, err
	}
	revoked, err := f.rows.Revoke(ctx, target)
	if err != nil {
		if !errors.Is(err, feed.ErrRepeat) {
			// The keys are gone and the rows are not: half is no outcome.
			err = fmt.Errorf("%w: %w", feed.ErrRepeat, err)
		}
		return feed.Revoked{}, err
	}
	keysEra, _, _ := strings.Cut(string(ended.Revision), ",")
	revoked.Era = JoinEras(store.Era(keysEra), revoked.Era)
	revoked.Revision = feed.Revision(pair("", string(revoked.Revision)))
	revoked.Sessions = max(revoked.Sessions, ended.Sessions)
	if revoked.Key == (feed.Key{}) {
		revoked.Key = ended.Key
	}
	return revoked, nil
}

// Revision implements [feed.Source].
func (f *Feed) Revision(ctx context.Context) (feed.Revision, error) {
	keys, err := f.keys.Revision(ctx)
	if err != nil {
		return "", err
	}
	rows, err := f.rows.Revision(ctx)
	if err != nil {
		return "", err
	}
	return feed.Revision(pair(string(keys), string(rows))), nil
}

// Covers implements [feed.Source]. The revision of a revocation, and the position of
// another replica, have no part of the keys: whoever knows the rows' event asks anew.
func (f *Feed) Covers(p feed.Position, era store.Era, r feed.Revision) (bool, error) {
	keysRevision, rowsRevision, err := split(string(r))
	if err != nil {
		return false, err
	}
	keysAt, rowsAt, _ := strings.Cut(string(p), "/")
	keysEra, rowsEra := SplitEra(era)
	if covered, err := f.rows.Covers(feed.Position(rowsAt), rowsEra, feed.Revision(rowsRevision)); err != nil || !covered {
		return false, err
	}
	if keysRevision == "" {
		return true, nil
	}
	return f.keys.Covers(feed.Position(keysAt), keysEra, feed.Revision(keysRevision))
}

// Meets implements [feed.Source].
func (f *Feed) Meets(era store.Era, r feed.Revision) (bool, error) {
	_, rowsRevision, err := split(string(r))
	if err != nil {
		return false, err
	}
	_, rowsEra := SplitEra(era)
	return f.rows.Meets(rowsEra, feed.Revision(rowsRevision))
}

// Close implements [feed.Source].
func (f *Feed) Close() error { return errors.Join(f.keys.Close(), f.rows.Close()) }
