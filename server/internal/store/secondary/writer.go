package secondary

import (
	"context"
	"errors"
	"time"

	"github.com/sessiond/sessiond/server/internal/store"
)

// WriterConfig says how the issuer writes into its two stores.
type WriterConfig struct {
	// Keys writes the secondary storage, Rows the database.
	Keys, Rows store.Writer
	// Preserved is as in [Config].
	Preserved bool
	// RowsFirst says that the key is made of the row that was extended (up to 1.3),
	// not the other way round.
	RowsFirst bool
	// ListRows says that the issuer lists a user's sessions by their rows (from 1.7 on
	// without preserved rows), and not by their keys.
	ListRows bool
}

// Writer writes both stores, as the issuer does. It implements [store.Writer].
type Writer struct{ cfg WriterConfig }

var _ store.Writer = (*Writer)(nil)

// NewWriter returns a Writer over two open ones, which it closes.
func NewWriter(c WriterConfig) *Writer { return &Writer{c} }

// Create implements [store.Writer]. The row comes first, whatever the version: nobody
// has the token yet, and a row that is refused leaves no key.
func (w *Writer) Create(ctx context.Context, s store.NewSession) (id string, err error) {
	if id, err = w.cfg.Rows.Create(ctx, s); err != nil {
		return "", err
	}
	_, err = w.cfg.Keys.Create(ctx, s)
	return id, err
}

// Extend implements [store.Writer]. Where rows outlive their sessions, one whose key
// is gone is not extended.
func (w *Writer) Extend(ctx context.Context, token string, expires, updated time.Time) (bool, error) {
	if w.cfg.RowsFirst {
		done, err := w.cfg.Rows.Extend(ctx, token, expires, updated)
		if err == nil && done {
			_, err = w.cfg.Keys.Extend(ctx, token, expires, updated)
		}
		return done, err
	}
	done, err := w.cfg.Keys.Extend(ctx, token, expires, updated)
	if err != nil || !done && w.cfg.Preserved {
		return false, err
	}
	return w.cfg.Rows.Extend(ctx, token, expires, updated)
}

// Sessions implements [store.Writer].
func (w *Writer) Sessions(ctx context.Context, user string, limit int, after store.Cursor) ([]store.NamedSession, error) {
	if w.cfg.ListRows {
		return w.cfg.Rows.Sessions(ctx, user, limit, after)
	}
	return w.cfg.Keys.Sessions(ctx, user, limit, after)
}

// Token implements [store.Writer]. Keys of some versions hold no ids; rows do.
func (w *Writer) Token(ctx context.Context, user, session string) (token string, found bool, err error) {
	if token, found, err = w.cfg.Rows.Token(ctx, user, session); err != nil || found {
		return token, found, err
	}
	return w.cfg.Keys.Token(ctx, user, session)
}

// Close implements [store.Writer].
func (w *Writer) Close() error { return errors.Join(w.cfg.Keys.Close(), w.cfg.Rows.Close()) }
