package history

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	boundFlag       = flag.Duration("bound", 500*time.Millisecond, "staleness bound")
	durationFlag    = flag.Duration("for", 10*time.Second, "how long sessions are made and ended, unless -revocations is given")
	revocationsFlag = flag.Int("revocations", 0, "go on until so many sessions have ended")
	authoritiesFlag = flag.Int("authorities", 2, "how many")
	workersFlag     = flag.Int("workers", 3, "how many")
	rateFlag        = flag.Int("rate", 30, "users that sign in a second; each has one or more sessions")
	callsFlag       = flag.Int("calls", 1500, "calls a second of each worker")
	seedFlag        = flag.Uint64("seed", 0, "of the faults; 0: a new one")
	storeFlag       = flag.String("store", "postgres", "where sessions are: postgres, redis, both or both-strict (keys, then rows)")
	faultsFlag      = flag.String("faults", "all", "only these, separated by commas; all or none")
	sessiondFlag    = flag.String("sessiond", "", "the program to test; empty: built from the tree")
	workerFlag      = flag.String("worker", "", "the worker to test with; empty: built from the tree")
	reportFlag      = flag.String("report", "", "file for the result, JSON")
)

// TestHistory runs authorities, workers and an issuer as processes over a primary
// with a standby, injects faults, and judges what every worker was told about
// every session.
func TestHistory(t *testing.T) {
	cfg := Config{
		Sessiond: *sessiondFlag, Worker: *workerFlag,
		Bound: *boundFlag, Duration: *durationFlag, Revocations: *revocationsFlag,
		Authorities: *authoritiesFlag, Workers: *workersFlag, Rate: *rateFlag, Calls: *callsFlag,
		Store: *storeFlag, Faults: *faultsFlag, Seed: *seedFlag, Log: t.Logf,
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	programs := t.TempDir()
	if cfg.Sessiond == "" {
		cfg.Sessiond = build(t, filepath.Join("..", ".."), "./server/cmd/sessiond", filepath.Join(programs, "sessiond"))
	}
	if cfg.Worker == "" {
		cfg.Worker = build(t, ".", "./worker", filepath.Join(programs, "worker"))
	}
	result, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatalf("seed %d: %v", cfg.Seed, err)
	}
	t.Logf("\n%s", result.Table())
	if *reportFlag != "" {
		write(t, *reportFlag, result)
	}
	for _, f := range result.Findings {
		t.Error(f)
	}
	if result.Violations > 0 {
		t.Errorf("%d violations after %d operations; seed %d", result.Violations, result.Operations, result.Seed)
	}
	if len(result.ControlMissed) > 0 {
		t.Errorf("the checker did not notice: %q", result.ControlMissed)
	}
	if result.Sources["cache"] == 0 || result.Outcomes["refused"] == 0 {
		t.Error("nothing was tested: no call was answered from memory, or none was refused")
	}
}

func build(t *testing.T, dir, pkg, out string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
	return out
}

func write(t *testing.T, file string, result *Result) {
	t.Helper()
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
