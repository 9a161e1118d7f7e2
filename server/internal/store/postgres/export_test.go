package postgres

import "github.com/sessiond/sessiond/server/internal/store"

// SQL is the lookup's statement.
func (s *Store) SQL() string { return s.statement.sql }

// Saw has the feed believe that an answer came from a server.
func (f *Feed) Saw(era store.Era, system string) { f.saw(era, system) }

// RevokeSQL are the statements of Revoke: by token, by session, by user.
func (f *Feed) RevokeSQL() [3]string {
	r := f.statements.revoke
	return [3]string{r.byToken, r.bySession, r.byUser}
}
