package doctor_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/doctor"
	"github.com/sessiond/sessiond/server/internal/sessiondata"
	"github.com/sessiond/sessiond/sessioncookie"
)

// TestStateless: that there is no store is no fault, and nobody is asked who could
// not know.
func TestStateless(t *testing.T) {
	report := doctor.Run(t.Context(), doctor.Config{
		Server: server.Config{
			Listen: "127.0.0.1:0", DrainTimeout: time.Second,
			Store: server.StoreConfig{Driver: server.DriverNone},
			Feed:  server.FeedConfig{Mode: server.FeedAuto},
			Authority: authority.Config{
				Cookies:      sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}},
				Companions:   []authority.Companion{{Session: name, SessionData: &sessiondata.Config{Name: "better-auth.session_data", Secrets: []string{secret}}}},
				Stateless:    &authority.Stateless{},
				MaxBatchSize: 8, StalenessBound: bound,
			},
		},
		Cookie:    cookie(name, sessioncookie.NewToken(), secret),
		IssuerURL: "http://127.0.0.1:1/api/auth",
	})
	want := map[string]doctor.Severity{"schema": doctor.Skipped, "index": doctor.Skipped, "parity": doctor.Skipped, "feed": doctor.Note, "signature": doctor.OK, "cookie_names": doctor.OK}
	for _, f := range report.Findings {
		if severity, ok := want[f.Check]; ok && f.Severity != severity {
			t.Errorf("%s: %s: %s", f.Check, f.Severity, f.What)
		}
		delete(want, f.Check)
	}
	if len(want) > 0 || report.Worst == doctor.Warn || report.Worst == doctor.Fail {
		t.Errorf("worst %s, not looked at: %v", report.Worst, want)
	}
}
