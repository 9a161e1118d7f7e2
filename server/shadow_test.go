package server_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/shadow"
)

// TestShadowInPlaintext: users' cookies do not leave the machine unencrypted,
// unless the operator says that something else encrypts.
func TestShadowInPlaintext(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel() // what starts stops at once
	for _, tt := range []struct {
		url      string
		insecure bool
		refused  bool
	}{
		{"http://auth.internal:3000/api/auth", false, true},
		{"http://auth.internal/api/auth", false, true},
		{"http://auth.internal:3000/api/auth", true, false},
		{"https://auth.internal/api/auth", false, false},
		{"http://127.0.0.1:3000/api/auth", false, false},
		{"http://[::1]:3000/api/auth", false, false},
		{"http://localhost:3000/api/auth", false, false},
	} {
		cfg := configuration(t)
		cfg.Insecure, cfg.Shadow = tt.insecure, shadow.Config{IssuerURL: tt.url, PerMinute: 1, Sample: 1}
		srv, err := server.New(t.Context(), cfg, quiet())
		if refused := err != nil && strings.Contains(err.Error(), "shadow.issuer_url"); refused != tt.refused || err != nil && !tt.refused {
			t.Errorf("%s, insecure %t: %v", tt.url, tt.insecure, err)
		}
		if err != nil {
			continue
		}
		if err := srv.Run(over); err != nil {
			t.Error(err)
		}
	}
}
