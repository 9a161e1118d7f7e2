package sqlite

import (
	"context"
	"database/sql"

	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// Statements returns the lookups that Open would prepare on db.
func Statements(ctx context.Context, db *sql.DB) ([]string, error) {
	c, err := readCatalog(ctx, db)
	if err != nil {
		return nil, err
	}
	m, err := schema.Discover(c, store.Schema{})
	if err != nil {
		return nil, err
	}
	text := lookupSQL(m, m.Slots())
	return []string{text + oneToken, text + manyTokens}, nil
}
