package client_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/client"
)

func TestNewChecksItsOptions(t *testing.T) {
	for _, c := range []struct {
		name, target string
		opts         []client.Option
		wantErr      string // "" for none
	}{
		{"loopback name", "localhost:8443", nil, ""},
		{"loopback address", "127.0.0.1:8443", nil, ""},
		{"another loopback address", "dns:///127.9.9.9:8443", nil, ""},
		{"loopback IPv6", "dns:///[::1]:8443", nil, ""},
		{"loopback, no port", "dns:///localhost", nil, ""},
		{"unix socket", "unix:///run/sessiond.sock", nil, ""},
		{"remote, TLS", "dns:///sessiond:8443", []client.Option{client.WithTLS(&tls.Config{MinVersion: tls.VersionTLS13})}, ""},
		{"remote, TLS by default", "sessiond:8443", []client.Option{client.WithTLS(nil)}, ""},
		{"remote, plaintext allowed", "sessiond:8443", []client.Option{client.WithInsecure()}, ""},
		{"remote", "dns:///sessiond:8443", nil, "WithTLS"},
		{"remote address", "192.0.2.1:8443", nil, "WithTLS"},
		{"any address", "0.0.0.0:8443", nil, "WithTLS"},
		{"looks like loopback", "localhost.example.com:8443", nil, "WithTLS"},
		{"looks like a loopback address", "127.0.0.1.example.com:8443", nil, "WithTLS"},
		{"loopback by another's name server", "dns://192.0.2.53/localhost:8443", nil, "WithTLS"},
		{"unknown scheme", "xds:///localhost", nil, "WithTLS"},
		{"both", "localhost:1", []client.Option{client.WithTLS(nil), client.WithInsecure()}, "exclude each other"},
		{"no timeout", "localhost:1", []client.Option{client.WithTimeout(0)}, "must be positive"},
		{"negative timeout", "localhost:1", []client.Option{client.WithTimeout(-time.Second)}, "must be positive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sessions, err := client.New(c.target, c.opts...)
			if err == nil {
				defer func() {
					if err := sessions.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				}()
			}
			switch {
			case c.wantErr == "" && err != nil:
				t.Errorf("New: %v", err)
			case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
				t.Errorf("New: error %v, want one about %q", err, c.wantErr)
			}
		})
	}
}
