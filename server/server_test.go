package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/sessioncookie"
)

func configuration(t *testing.T) server.Config {
	t.Helper()
	return server.Config{
		Listen:       "127.0.0.1:0",
		AdminListen:  "127.0.0.1:0",
		DrainTimeout: time.Second,
		Store:        server.StoreConfig{Driver: server.DriverSQLite, Path: filepath.Join(t.TempDir(), "s.sqlite"), Create: true},
		Authority: authority.Config{
			Cookies:      sessioncookie.Config{Names: []string{"sid"}, Secrets: []string{"a-secret-of-at-least-thirty-two-bytes"}},
			MaxBatchSize: 8, StalenessBound: 5 * time.Second,
		},
		Feed:       server.FeedConfig{Mode: server.FeedAuto},
		CacheBytes: 1 << 20,
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run serves until the test ends.
func run(t *testing.T, cfg server.Config) *server.Server {
	t.Helper()
	srv, err := server.New(t.Context(), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return srv
}

func dial(t *testing.T, srv *server.Server, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(srv.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func TestHealthAndAdmin(t *testing.T) {
	srv := run(t, configuration(t))
	conn := dial(t, srv, insecure.NewCredentials())
	watch, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "sessiond.v1.SessionService"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			break
		}
	}
	for path, want := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": "sessiond_verdicts_total{reason=\"NONE\",verdict=\"good\"} 0"} {
		resp, err := http.Get("http://" + srv.AdminAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v, %.200s", path, resp.StatusCode, err, body)
		}
	}
}

func TestTLS(t *testing.T) {
	ca := newCA(t)
	cfg := configuration(t)
	cfg.TLS.Cert, cfg.TLS.Key = ca.issue(t, "server")
	cfg.TLS.ClientCA = ca.file
	srv := run(t, cfg)
	certFile, keyFile := ca.issue(t, "worker")
	worker, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		{"client certificate", credentials.NewTLS(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{worker}}), codes.OK},
		{"no client certificate", credentials.NewTLS(&tls.Config{RootCAs: ca.pool}), codes.Unavailable},
		{"unknown authority", credentials.NewTLS(&tls.Config{RootCAs: x509.NewCertPool()}), codes.Unavailable},
		{"plaintext", insecure.NewCredentials(), codes.Unavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := sessiondv1.NewSessionServiceClient(dial(t, srv, tt.creds)).GetIntake(t.Context(), &sessiondv1.GetIntakeRequest{})
			if status.Code(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}

	// A renewed certificate is served without a restart.
	newCert, newKey := ca.issue(t, "renewed")
	for from, to := range map[string]string{newCert: cfg.TLS.Cert, newKey: cfg.TLS.Key} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := tls.Dial("tcp", srv.Addr().String(), &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{worker}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "renewed" {
		t.Errorf("served %q", got)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		name   string
		change func(*server.Config)
		want   string
	}{
		{"plaintext to the world", func(c *server.Config) { c.Listen = ":0" }, "would be plaintext"},
		{"metrics to the world", func(c *server.Config) { c.AdminListen = "0.0.0.0:0" }, "admin.listen"},
		{"address", func(c *server.Config) { c.Listen = "8443" }, "not host:port"},
		{"port in use", func(c *server.Config) { c.Listen = taken.Addr().String() }, "cannot listen on"},
		{"admin port in use", func(c *server.Config) { c.AdminListen = taken.Addr().String() }, "admin.listen: cannot listen on"},
		{"half of TLS", func(c *server.Config) { c.TLS.Cert = "x" }, "belong together"},
		{"client authority without TLS", func(c *server.Config) { c.TLS.ClientCA = "x" }, "tls.client_ca_file"},
		{"no such certificate", func(c *server.Config) { c.TLS.Cert, c.TLS.Key = "no/cert", "no/key" }, "tls.cert_file"},
		{"a rule that could not be checked", func(c *server.Config) { c.Authority.Policy.RefuseDeleted = true }, "policy.soft_delete_column"},
		{"driver", func(c *server.Config) { c.Store.Driver = "mysql" }, "store.driver"},
		{"no names", func(c *server.Config) { c.Authority.Cookies.Names = nil }, "name"},
		{"no such file", func(c *server.Config) { c.Store.Create = false }, "s.sqlite"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := configuration(t)
			tt.change(&cfg)
			_, err := server.New(t.Context(), cfg, quiet())
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("explicitly insecure", func(t *testing.T) {
		cfg := configuration(t)
		cfg.Listen, cfg.Insecure = "0.0.0.0:0", true
		run(t, cfg)
	})
}

// certificates for the tests

type ca struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
	file string
}

func newCA(t *testing.T) *ca {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &ca{key: key, cert: cert, pool: x509.NewCertPool(), file: filepath.Join(t.TempDir(), "ca.pem")}
	c.pool.AddCert(cert)
	writePEM(t, c.file, "CERTIFICATE", der)
	return c
}

func (c *ca) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.cert, &key.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", private)
	return certFile, keyFile
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
