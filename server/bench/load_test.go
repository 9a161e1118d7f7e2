//go:build load

package bench_test

// The load test: the real server on a real Postgres, driven by ghz. make load
// runs it; the tag keeps it out of go test ./...

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/sessioncookie"
)

const (
	sessions = 100_000
	// Of the requests, these many in a hundred carry a tampered signature, and
	// these many a signed token that no row has.
	tamperedPercent, unknownPercent = 5, 5
)

func TestLoad(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(root, "build", "load")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Log("building sessiond and ghz")
	sessiond, ghz := filepath.Join(t.TempDir(), "sessiond"), filepath.Join(t.TempDir(), "ghz")
	run(t, root, "go", "build", "-o", sessiond, "./server/cmd/sessiond")
	run(t, root, "go", "build", "-modfile=tools/ghz.mod", "-o", ghz, "github.com/bojand/ghz/cmd/ghz")

	t.Logf("loading %d sessions", sessions)
	dsn := pgtest.Start(t).NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	execute(t, conn, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	tokens := make([]string, sessions)
	for i := range tokens {
		tokens[i] = sessioncookie.NewToken()
	}
	seed(t, conn, tokens)
	want := writeData(t, filepath.Join(out, "data.json"), tokens)

	install(t, sessiond, dsn)

	var report bytes.Buffer
	fmt.Fprintf(&report, "# Load report\n\n`make load`: ghz against one sessiond on Postgres with %d sessions and a change feed; every request of a pass another token, in random order; %d %% tampered, %d %% unknown.\n\n", sessions, tamperedPercent, unknownPercent)
	fmt.Fprintf(&report, "| in flight | pass | requests | per second | p50 | p95 | p99 | SQL statements | verdicts as expected |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, inFlight := range []int{16, 64, 256} {
		func() {
			address, admin, stop := start(t, sessiond, dsn)
			defer stop()
			for _, pass := range []struct {
				name string
				most int // statements
			}{
				// The first one knows nothing; misses share statements.
				{"cold", want["good NONE"] + want["refused NOT_FOUND"]},
				// The second one knows all but what there is not, which is never remembered.
				{"warm", want["refused NOT_FOUND"]},
			} {
				execute(t, conn, "SELECT pg_stat_statements_reset()")
				before := scrape(t, admin)
				result := filepath.Join(out, fmt.Sprintf("ghz-%d-%s.json", inFlight, pass.name))
				run(t, root, ghz, "--config", "server/bench/ghz.json", "-D", filepath.Join(out, "data.json"),
					"-n", strconv.Itoa(sessions), "-c", strconv.Itoa(inFlight), "-o", result, address)
				got := diff(before, scrape(t, admin))
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%d in flight, %s: the server counted %v, want %v", inFlight, pass.name, got, want)
				}
				statements := lookups(t, conn)
				if statements == 0 || statements > pass.most {
					t.Errorf("%d in flight, %s: %d SQL statements, want some and at most %d", inFlight, pass.name, statements, pass.most)
				}
				r := readResult(t, result)
				if r.Codes["OK"] != sessions {
					t.Errorf("%d in flight, %s: statuses %v", inFlight, pass.name, r.Codes)
				}
				fmt.Fprintf(&report, "| %d | %s | %d | %.0f | %s | %s | %s | %d | yes |\n", inFlight, pass.name, r.Count, r.RPS, r.percentile(50), r.percentile(95), r.percentile(99), statements)
			}
		}()
	}
	if t.Failed() {
		return
	}
	path := filepath.Join(out, "report.md")
	if err := os.WriteFile(path, report.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(t.Output(), "\n%s\nwritten to %s\n", report.String(), path)
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
}

// install gives the database its change feed.
func install(t *testing.T, binary, dsn string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "feed", "install", "--store-driver", "postgres", "--yes")
	cmd.Env = append(os.Environ(), "SESSIOND_STORE_DSN="+dsn)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("install the feed: %v\n%s", err, text)
	}
}

// writeData writes one request a session, in random order, and returns the
// verdicts the server must count.
func writeData(t *testing.T, path string, tokens []string) map[string]int {
	t.Helper()
	want := make(map[string]int)
	requests := make([]any, len(tokens))
	for i, token := range tokens {
		value := sessioncookie.Sign(token, secret)
		switch p := i * 100 / len(tokens); {
		case p < tamperedPercent:
			value = sessioncookie.Sign(token, secret+"x")
			want["refused BAD_SIGNATURE"]++
		case p < tamperedPercent+unknownPercent:
			value = sessioncookie.Sign(sessioncookie.NewToken(), secret)
			want["refused NOT_FOUND"]++
		default:
			want["good NONE"]++
		}
		header := []byte(cookie + "=" + sessioncookie.Encode(value))
		requests[i] = map[string]any{"credential": map[string]any{"headers": map[string]any{"cookie": header}}}
	}
	rand.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	text, err := json.Marshal(requests)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// start runs the binary and waits until it is ready.
func start(t *testing.T, binary, dsn string) (address, admin string, stop func()) {
	t.Helper()
	address, admin = free(t), free(t)
	cmd := exec.CommandContext(t.Context(), binary, "serve", "--listen", address, "--admin-listen", admin, "--store-driver", "postgres", "--issuer-base-url", "http://localhost", "--log-level", "warn", "--store-max-conns", "16")
	cmd.Env = append(os.Environ(), "SESSIOND_STORE_DSN="+dsn, "SESSIOND_ISSUER_SECRET="+secret)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("sessiond: %v", err)
		}
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err == nil {
			err = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return address, admin, stop
			}
		}
		select {
		case <-deadline:
			stop()
			t.Fatalf("not ready: %v", err)
		case <-ticker.C:
		}
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// scrape reads the verdict counters.
func scrape(t *testing.T, admin string) map[string]int {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for line := range strings.Lines(body.String()) {
		rest, ok := strings.CutPrefix(line, "sessiond_verdicts_total{")
		if !ok {
			continue
		}
		labels, number, _ := strings.Cut(rest, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil {
			t.Fatal(err)
		}
		var reason, verdict string
		for label := range strings.SplitSeq(labels, ",") {
			name, value, _ := strings.Cut(label, "=")
			switch name {
			case "reason":
				reason = strings.Trim(value, `"`)
			case "verdict":
				verdict = strings.Trim(value, `"`)
			}
		}
		counts[verdict+" "+reason] = int(n)
	}
	return counts
}

func diff(before, after map[string]int) map[string]int {
	out := make(map[string]int)
	for key, n := range after {
		if d := n - before[key]; d != 0 {
			out[key] = d
		}
	}
	return out
}

// lookups counts the lookups as Postgres saw them; the readiness check, which
// ends in LIMIT 0, is not one.
func lookups(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var calls int
	err := conn.QueryRow(t.Context(), `SELECT coalesce(sum(calls), 0)::int FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
		WHERE query ILIKE '%token%' AND query ILIKE '%"user"%' AND query ILIKE '%ANY%' AND query NOT ILIKE '%LIMIT%' AND query NOT ILIKE '%pg_stat_statements%' AND query NOT ILIKE '%pg_catalog%'`).Scan(&calls)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// result is the part of ghz's JSON report that is used.
type result struct {
	Count   int            `json:"count"`
	RPS     float64        `json:"rps"`
	Codes   map[string]int `json:"statusCodeDistribution"`
	Latency []struct {
		Percentage int           `json:"percentage"`
		Latency    time.Duration `json:"latency"`
	} `json:"latencyDistribution"`
}

func (r result) percentile(p int) string {
	for _, l := range r.Latency {
		if l.Percentage == p {
			return l.Latency.Round(10 * time.Microsecond).String()
		}
	}
	return "?"
}

func readResult(t *testing.T, path string) result {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
