package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server/internal/store"
)

// behind is a database behind a pooler. What a real PgBouncer shows is the test of
// store/postgres.
type behind struct {
	store.Examiner
	pooler store.Pooler
	err    error
}

func (b behind) Pooler(context.Context) (store.Pooler, error) { return b.pooler, b.err }

func TestPooler(t *testing.T) {
	tests := []struct {
		name     string
		database behind
		severity Severity
		text     string
	}{
		{"none", behind{}, OK, "nothing is between"},
		{"session mode", behind{pooler: store.Pooler{Present: true, KeepsPrepared: true, Prepares: true}}, Note, "not seen to change"},
		{"transaction mode, statements forgotten", behind{pooler: store.Pooler{Present: true, Transaction: true, Prepares: true, Mode: "cache_statement"}}, Fail, "default_query_exec_mode=cache_statement relies on them"},
		{"transaction mode, statements kept", behind{pooler: store.Pooler{Present: true, Transaction: true, Prepares: true, KeepsPrepared: true}}, Note, "keeps prepared statements"},
		{"transaction mode, none prepared", behind{pooler: store.Pooler{Present: true, Transaction: true, Mode: "exec"}}, Note, "default_query_exec_mode=exec fits it"},
		{"not told", behind{err: errors.New("the connection broke")}, Warn, "the connection broke"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := checkPooler(t.Context(), &examination{database: tt.database})
			if len(found) != 1 || found[0].Severity != tt.severity || !strings.Contains(found[0].What, tt.text) {
				t.Errorf("found %+v", found)
			}
			if tt.severity == Fail && !strings.Contains(found[0].Fix, "default_query_exec_mode=exec") {
				t.Errorf("fix %q", found[0].Fix)
			}
		})
	}
}
