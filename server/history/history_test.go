package history

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/sessioncookie"
)

var (
	boundFlag       = flag.Duration("bound", 500*time.Millisecond, "staleness bound")
	durationFlag    = flag.Duration("for", 20*time.Second, "how long sessions are made and ended")
	revocationsFlag = flag.Int("revocations", 0, "go on until so many sessions have ended")
	authoritiesFlag = flag.Int("authorities", 2, "how many")
	workersFlag     = flag.Int("workers", 4, "how many")
	rateFlag        = flag.Int("rate", 60, "sessions made and ended a second")
	seedFlag        = flag.Uint64("seed", 0, "of the faults; 0: a new one")
	faultsFlag      = flag.String("faults", "", "only these, separated by commas; none: no faults")
	sessiondFlag    = flag.String("sessiond", "", "the program to test; empty: built from the tree")
	workerFlag      = flag.String("worker", "", "the worker to test; empty: built from the tree")
	reportFlag      = flag.String("report", "", "file for the result, JSON")
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const secret = "a-secret-for-the-history-of-thirty-two-bytes"

// monotonic reads the machine's monotonic clock, as the workers do.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano()
}

// TestHistory runs authorities, workers and an issuer as processes, injects faults,
// and checks what every worker was told about every session.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.finish()
}

type world struct {
	t       *testing.T
	rand    *rand.Rand // of run
	chance  *rand.Rand // of the faults
	bound   time.Duration
	cluster *pgtest.Cluster
	dsn     string
	pool    *pgxpool.Pool

	authorities []*authority
	workers     []*worker

	mu                           sync.Mutex
	sessions                     map[string]*session
	ended                        int
	started                      int
	faults                       map[string]int
	undecided, accepted, refused int
}

type authority struct {
	address  string // its own
	database *link
	process  *exec.Cmd
	conn     *grpc.ClientConn
	admin    sessiondv1.SessionAdminServiceClient
	restart  func()
	mu       sync.Mutex
}

type worker struct {
	process *exec.Cmd
	in      io.WriteCloser
	links   []*link
	done    chan struct{}
	mu      sync.Mutex
}

func newWorld(t *testing.T) *world {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d, bound %v", seed, *boundFlag)
	w := &world{chance: rand.New(rand.NewPCG(seed, 2)),
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), bound: *boundFlag,
		sessions: map[string]*session{}, faults: map[string]int{},
	}
	programs := t.TempDir()
	sessiond, workerProgram := *sessiondFlag, *workerFlag
	if sessiond == "" {
		sessiond = filepath.Join(programs, "sessiond")
		w.build("../..", sessiond, "./server/cmd/sessiond")
	}
	if workerProgram == "" {
		workerProgram = filepath.Join(programs, "worker")
		w.build(".", workerProgram, "./worker")
	}
	w.cluster = pgtest.StartOwn(t)
	w.dsn = w.cluster.NewDatabase(t)
	var err error
	if w.pool, err = pgxpool.New(t.Context(), w.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	w.sql(`create table "user" (id text primary key, name text not null, email text not null unique, "emailVerified" boolean not null, image text,
		"createdAt" timestamptz default now() not null, "updatedAt" timestamptz default now() not null)`)
	w.sql(`create table session (id text primary key, "expiresAt" timestamptz not null, token text not null unique, "createdAt" timestamptz default now() not null,
		"updatedAt" timestamptz not null, "ipAddress" text, "userAgent" text, "userId" text not null references "user" (id) on delete cascade)`)
	w.sql(`create index on session ("userId")`)
	install := exec.CommandContext(t.Context(), sessiond, "feed", "install", "--yes", "--store-driver=postgres", "--staleness-bound="+w.bound.String())
	install.Env = []string{"SESSIOND_STORE_DSN=" + w.dsn}
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("feed install: %v\n%s", err, out)
	}
	config, err := pgx.ParseConfig(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for range *authoritiesFlag {
		w.authorities = append(w.authorities, w.newAuthority(sessiond, config))
	}
	for i := range *workersFlag {
		w.workers = append(w.workers, w.newWorker(workerProgram, i))
	}
	return w
}

func (w *world) build(dir, out, pkg string) {
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

func (w *world) sql(statement string, args ...any) {
	if _, err := w.pool.Exec(w.t.Context(), statement, args...); err != nil {
		w.t.Fatalf("%s: %v", statement, err)
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) newAuthority(program string, config *pgx.ConnConfig) *authority {
	database, err := newLink(net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(database.close)
	host, port, _ := net.SplitHostPort(database.address())
	a := &authority{address: freeAddress(w.t), database: database}
	dsn := fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable", host, port, config.User, config.Password, config.Database)
	start := func() {
		cmd := exec.Command(program, "serve", "--listen="+a.address, "--admin-listen=", "--store-driver=postgres", "--feed-mode=required",
			"--issuer-cookie-name=sid", "--issuer-use-secure-cookies=false", "--staleness-bound="+w.bound.String(), "--log-level=warn")
		cmd.Env = []string{"SESSIOND_STORE_DSN=" + dsn, "SESSIOND_ISSUER_SECRET=" + secret}
		cmd.Stderr = &logWriter{t: w.t, name: a.address}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			w.t.Error(err)
			return
		}
		a.process = cmd
	}
	start()
	a.conn, err = grpc.NewClient(a.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	a.admin = sessiondv1.NewSessionAdminServiceClient(a.conn)
	a.restart = func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = a.process.Process.Kill()
		_ = a.process.Wait()
		start()
	}
	w.t.Cleanup(func() {
		_ = a.conn.Close()
		_ = a.process.Process.Kill()
		_ = a.process.Wait()
	})
	// Ready: it serves.
	w.until("authority "+a.address+" serves", func() bool {
		_, err := sessiondv1.NewSessionServiceClient(a.conn).GetIntake(w.t.Context(), &sessiondv1.GetIntakeRequest{}, grpc.WaitForReady(true))
		return err == nil
	})
	return a
}

// logWriter shows what a process says, when the test fails or is verbose.
type logWriter struct {
	t    *testing.T
	name string
}

func (l *logWriter) Write(p []byte) (int, error) {
	if testing.Verbose() && os.Getenv("HISTORY_LOGS") != "" {
		fmt.Fprintf(os.Stderr, "%s: %s", l.name, p)
	}
	return len(p), nil
}

func (w *world) until(what string, condition func() bool) {
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) newWorker(program string, n int) *worker {
	k := &worker{done: make(chan struct{})}
	var addresses []string
	for i := range w.authorities {
		// Each worker has a home of its own choice first.
		l, err := newLink(w.authorities[(i+n)%len(w.authorities)].address)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(l.close)
		k.links = append(k.links, l)
		addresses = append(addresses, l.address())
	}
	k.process = exec.Command(program, "-authorities="+strings.Join(addresses, ","))
	k.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if k.in, err = k.process.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := k.process.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	k.process.Stderr = os.Stderr
	if err := k.process.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(k.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			w.record(n, lines.Text())
		}
	}()
	return k
}

func (w *world) record(worker int, line string) {
	var id, outcome string
	var c call
	if _, err := fmt.Sscan(line, &id, &c.start, &c.end, &outcome); err != nil {
		w.t.Errorf("worker %d printed %q", worker, line)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch outcome {
	case "a":
		c.accepted = true
		w.accepted++
	case "r":
		w.refused++
	default:
		w.undecided++
		return
	}
	if s := w.sessions[id]; s != nil {
		s.calls[worker] = append(s.calls[worker], c)
	}
}

func (w *world) tell(line string) {
	for _, k := range w.workers {
		k.mu.Lock()
		_, _ = io.WriteString(k.in, line+"\n")
		k.mu.Unlock()
	}
}

// run makes sessions, ends them in every way, and injects faults meanwhile.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { w.injectFaults(ctx) })
	begun := time.Now()
	ticker := time.NewTicker(time.Second / time.Duration(*rateFlag))
	defer ticker.Stop()
	var lives sync.WaitGroup
	for n := 0; ; n++ {
		if *revocationsFlag > 0 && n >= *revocationsFlag || *revocationsFlag == 0 && time.Since(begun) > *durationFlag {
			break
		}
		<-ticker.C
		plan := plan{life: time.Duration(w.rand.Int64N(int64(3 * time.Second / 2))), how: hows[w.rand.IntN(len(hows))], by: w.rand.IntN(len(w.authorities))}
		lives.Go(func() { w.life(n, plan) })
	}
	lives.Wait()
	cancel()
	running.Wait()
	time.Sleep(2 * w.bound) // the workers go on for a while after the last end
}

// plan says how a session lives and ends.
type plan struct {
	life time.Duration
	how  string
	by   int
}

var hows = []string{
	"revoke", "revoke", "revoke by credential", "revoke user",
	"sql delete", "sql delete", "sql late commit", "sql expiry", "sql user deleted", "sql asynchronous", "lives on",
}

func (w *world) life(n int, p plan) {
	id, user, token := fmt.Sprintf("s%d", n), fmt.Sprintf("u%d", n), sessioncookie.NewToken()
	s := &session{id: id, how: p.how, calls: map[int][]call{}}
	w.issuer(`insert into "user" (id, name, email, "emailVerified") values ($1, $1, $1, true)`, user)
	w.issuer(`insert into session (id, "expiresAt", token, "updatedAt", "userId") values ($1, now() + interval '7 days', $2, now(), $3)`, id, token, user)
	s.created = monotonic()
	w.mu.Lock()
	w.sessions[id] = s
	w.started++
	w.mu.Unlock()
	cookie := "sid=" + sessioncookie.Encode(sessioncookie.Sign(token, secret))
	w.tell("add " + id + " " + cookie)
	time.Sleep(p.life)

	start := monotonic()
	issuers := int64(w.bound) // what the issuer does is known everywhere within the bound
	switch p.how {
	case "revoke":
		w.revoke(p.by, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: &sessiondv1.SessionRef{UserId: user, SessionId: id}}})
		issuers = 0
	case "revoke by credential":
		w.revoke(p.by, &sessiondv1.RevokeSessionRequest{Session: &sessiondv1.RevokeSessionRequest_Credential{Credential: &sessiondv1.Credential{
			Kind: &sessiondv1.Credential_Headers{Headers: &sessiondv1.Headers{Cookie: []byte(cookie)}},
		}}})
		issuers = 0
	case "revoke user":
		w.retry(p.by, func(ctx context.Context, a *authority) error {
			_, err := a.admin.RevokeUserSessions(ctx, &sessiondv1.RevokeUserSessionsRequest{UserId: user})
			return err
		})
		issuers = 0
	case "sql delete":
		w.issuer(`delete from session where id = $1`, id)
	case "sql late commit":
		w.issuer(`with gone as (delete from session where id = $1 returning 1) select pg_sleep(0.3), (select count(*) from gone)`, id)
	case "sql expiry":
		w.issuer(`update session set "expiresAt" = now() - interval '1 second' where id = $1`, id)
	case "sql user deleted":
		w.issuer(`delete from "user" where id = $1`, user)
	case "sql asynchronous":
		w.asynchronous(s, id)
	case "lives on":
		time.Sleep(time.Second)
		w.tell("drop " + id)
		return
	}
	end := monotonic()
	w.mu.Lock()
	s.endStart, s.endEnd = start, end+issuers
	w.ended++
	w.mu.Unlock()
	time.Sleep(w.bound + w.bound/2 + 200*time.Millisecond)
	w.tell("drop " + id)
}

// issuer runs a statement until it was acknowledged: statements are such that
// running one again changes nothing.
func (w *world) issuer(statement string, args ...any) {
	for {
		_, err := w.pool.Exec(w.t.Context(), statement, args...)
		if err == nil || w.t.Context().Err() != nil || strings.Contains(err.Error(), "duplicate key") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// asynchronous deletes with a commit that a crash may take back. Whether one did is
// seen at the end.
func (w *world) asynchronous(s *session, id string) {
	for {
		_, err := w.pool.Exec(w.t.Context(), `with d as (delete from session where id = $1 returning 1) select set_config('synchronous_commit', 'off', true), (select count(*) from d)`, id)
		if err == nil {
			return
		}
		w.mu.Lock()
		s.lost = true // the acknowledgement was lost, and maybe the commit
		w.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) revoke(by int, request *sessiondv1.RevokeSessionRequest) {
	w.retry(by, func(ctx context.Context, a *authority) error {
		_, err := a.admin.RevokeSession(ctx, request)
		return err
	})
}

// retry calls one authority after the other until one says OK.
func (w *world) retry(by int, call func(context.Context, *authority) error) {
	for n := by; ; n++ {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*w.bound+2*time.Second)
		err := call(ctx, w.authorities[n%len(w.authorities)])
		cancel()
		if err == nil || w.t.Context().Err() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// finish ends the workers, looks what the store has lost, and checks everything.
func (w *world) finish() {
	for _, k := range w.workers {
		_ = k.process.Process.Signal(syscall.SIGCONT)
		_ = k.in.Close()
		select {
		case <-k.done:
		case <-time.After(20 * time.Second):
			w.t.Errorf("worker %d does not end", slices.Index(w.workers, k))
			_ = k.process.Process.Kill()
			<-k.done
		}
		if err := k.process.Wait(); err != nil {
			w.t.Errorf("worker: %v", err)
		}
	}
	rows, err := w.pool.Query(w.t.Context(), `select id from session where "expiresAt" > now()`)
	if err != nil {
		w.t.Fatal(err)
	}
	alive, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	lost := 0
	for _, id := range alive {
		if s := w.sessions[id]; s != nil && s.how == "sql asynchronous" && s.endStart != 0 {
			s.lost = true
		}
	}
	var violations []violation
	operations := 0
	for _, s := range w.sessions {
		if s.lost {
			lost++
		}
		for _, calls := range s.calls {
			operations += len(calls)
		}
		violations = append(violations, s.check()...)
	}
	result := map[string]any{
		"bound": w.bound.String(), "sessions": w.started, "revocations": w.ended, "operations": operations, "accepted": w.accepted,
		"refused": w.refused, "undecided": w.undecided, "lost_by_the_store": lost, "faults": w.faults, "violations": len(violations),
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Printf("%s\n", text)
	if *reportFlag != "" {
		if err := os.WriteFile(*reportFlag, append(text, '\n'), 0o644); err != nil {
			w.t.Error(err)
		}
	}
	for i, v := range violations {
		if i == 10 {
			break
		}
		w.t.Error(v.String())
	}
	if len(violations) > 0 {
		w.t.Errorf("%d violations after %d operations", len(violations), operations)
	}
	if w.ended == 0 || w.accepted == 0 || w.refused == 0 {
		w.t.Error("nothing was tested")
	}
}
