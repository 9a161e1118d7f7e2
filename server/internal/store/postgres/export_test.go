package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/store"
)

// PollSQL is the poll's statement.
var PollSQL = pollSQL

// SQL is the lookup's statement.
func (s *Store) SQL() string { return s.statement.sql }

// Saw has the feed believe that an answer came from a server.
func (f *Feed) Saw(era store.Era, system string) { f.saw(era, system) }

// RevokeSQL are the statements of Revoke: by token, by session, by user.
func (f *Feed) RevokeSQL() [3]string {
	r := f.statements.revoke
	return [3]string{r.deleting.byToken, r.deleting.bySession, r.deleting.byUser}
}

// BreakLine ends the connection for beats and polls.
func (f *Feed) BreakLine() {
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	f.line.drop(context.Background())
}

// LineConn tells connections for beats and polls apart.
func (f *Feed) LineConn() *pgx.Conn {
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	return f.line.conn
}
