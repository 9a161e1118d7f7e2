package differential_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/server/internal/store"
)

// envCount is how many headers each version and storage decides; envSeed repeats a run.
const (
	envCount     = "SESSIOND_TEST_DIFFERENTIAL"
	envSeed      = "SESSIOND_TEST_DIFFERENTIAL_SEED"
	defaultCount = 400
	batchSize    = 250
	// overSocket is how many of a batch are also sent as bytes over a socket.
	overSocket = batchSize / 5
	secret     = "a secret of the differential run, 32 bytes and more"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestDifferential: for every generated header, Better Auth and the authority give the
// same verdict, session and user.
func TestDifferential(t *testing.T) {
	count, seed := int(number(t, envCount, defaultCount)), number(t, envSeed, rand.Uint64())
	t.Logf("%d headers each, seed %d", count, seed)
	for _, version := range []string{"1.4", "1.7"} {
		for _, storage := range []string{"sql", "redis", "both"} {
			t.Run(version+" "+storage, func(t *testing.T) { differ(t, version, storage, count, seed) })
		}
	}
}

// tally counts headers by what came of them.
type tally struct {
	asked, sent, undecided int
	outcomes               map[string]int
}

func differ(t *testing.T, version, storage string, count int, seed uint64) {
	dsn := pgtest.Start(t).NewDatabase(t)
	env := []string{"DATABASE_URL=" + dsn, "VERSION=" + version, "STORAGE=" + storage, "BETTER_AUTH_SECRET=" + secret}
	ours := []string{"SESSIOND_ISSUER_SECRET=" + secret}
	flags := map[string]string{"issuer.version": version, "issuer.base_url": "http://127.0.0.1:3000", "issuer.bearer": "true"}
	if storage != "sql" {
		redis := redistest.Start(t)
		env, ours = append(env, "REDIS_URL="+redis.URL()), append(ours, "SESSIOND_SECONDARY_URL="+redis.URL())
		flags["secondary.store_in_database"] = strconv.FormatBool(storage == "both")
	}
	if storage != "redis" {
		ours = append(ours, "SESSIOND_STORE_DSN="+dsn)
		flags["store.driver"] = server.DriverPostgres
	}
	issuer := startIssuer(t, env)
	a, d := openAuthority(t, flags, ours)

	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(len(version+storage)))), made: issuer.Made, forged: issuer.Forged}
	n := tally{outcomes: make(map[string]int)}
	for n.asked < count && !t.Failed() {
		batch := make([]header, min(batchSize, count-n.asked))
		for i := range batch {
			batch[i] = g.next()
		}
		if n.asked == 0 { // every browser's own jar, as it is
			for i, m := range issuer.Made {
				jar := strings.Join(m.Cookies, "; ")
				batch[i] = header{cookie: &jar}
			}
		}
		answers := issuer.ask(t, batch)
		for i, h := range batch {
			n.compare(t, a, d, h, answers[i], i < overSocket, issuer)
		}
	}
	t.Logf("%d headers, %d of them also over a socket; %v; not decided by the issuer %d", n.asked, n.sent, n.outcomes, n.undecided)
	for _, outcome := range []string{"good by cookie", "good by bearer", "NO_CREDENTIAL", "MALFORMED", "BAD_SIGNATURE", "NOT_FOUND"} {
		if n.outcomes[outcome] < count/400 {
			t.Errorf("%s: %d of %d headers: too few to say much", outcome, n.outcomes[outcome], count)
		}
	}
}

// verdict is what the issuer said.
type verdict struct {
	status        int // of an answer that is no verdict
	good          bool
	session, user string
}

func (v verdict) String() string {
	switch {
	case v.status != 0:
		return fmt.Sprintf("status %d", v.status)
	case v.good:
		return "good"
	}
	return "refused"
}

func parseVerdict(t *testing.T, line []byte) verdict {
	t.Helper()
	var ids []string
	if err := json.Unmarshal(line, &ids); err == nil {
		if ids == nil {
			return verdict{}
		}
		return verdict{good: true, session: ids[0], user: ids[1]}
	}
	status, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatalf("the issuer answered %q", line)
	}
	return verdict{status: status}
}

func (n *tally) compare(t *testing.T, a *authority.Authority, d store.Description, h header, want verdict, socket bool, issuer *issuer) {
	t.Helper()
	n.asked++
	c := authority.Credential{}
	if h.cookie != nil {
		c.Cookie = *h.cookie
	}
	if h.authorization != nil {
		c.Authorization = *h.authorization
	}
	now := time.Now()
	got, err := a.Validate(t.Context(), authority.Call{Now: now, Arrived: clock.Now()}, c)
	if err != nil {
		t.Fatal(err)
	}
	if socket {
		n.sent++
		if over := issuer.send(t, h); over != want {
			t.Errorf("the issuer itself differs: in process %s, over a socket %s: %s", want, over, shape(h, issuer.Made))
		}
	}
	by := "cookie"
	if h.cookie == nil {
		by = "bearer"
	}
	if got.Verdict.Good() {
		n.outcomes["good by "+by]++
	} else {
		n.outcomes[got.Verdict.Reason.String()]++
	}
	if want.status != 0 {
		n.undecided++ // it crashed, or its HTTP parser refused: we refuse
	}
	same := want.good == got.Verdict.Good()
	if same && want.good {
		same = want.user == got.Record.User.ID && want.session == got.Record.Session.ID
	}
	if !same {
		e := a.Trace(now, d, c, &got)
		t.Errorf("the issuer: %s; here: %s; %s\n%+v", want, got.Verdict.Reason, shape(h, issuer.Made), e.Steps)
	}
}

// shape shows a header with names in the place of tokens and signatures.
func shape(h header, all []made) string {
	show := func(text *string) string {
		if text == nil {
			return "none"
		}
		out := *text
		for i, m := range all {
			token, signature, _ := strings.Cut(m.Token, ".")
			for piece, name := range map[string]string{
				token: "TOKEN", signature: "SIG", strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(signature): "SIG%",
			} {
				out = strings.ReplaceAll(out, piece, fmt.Sprintf("<%s%d %s>", name, i, m.Kind))
			}
		}
		return strconv.Quote(out)
	}
	return "Cookie " + show(h.cookie) + ", Authorization " + show(h.authorization)
}

func openAuthority(t *testing.T, flags map[string]string, env []string) (*authority.Authority, store.Description) {
	t.Helper()
	cfg, err := config.Load(config.Sources{Flags: flags, Env: env}, false)
	if err != nil {
		t.Fatal(err)
	}
	st, err := server.OpenStore(t.Context(), cfg.Server.Store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	a, err := authority.New(cfg.Server.Authority, authority.Direct(st))
	if err != nil {
		t.Fatal(err)
	}
	return a, st.Describe()
}

// issuer is a running Better Auth.
type issuer struct {
	Batch, HTTP int
	Made        []made
	Forged      string
	conn        net.Conn
	reader      *bufio.Reader
}

func startIssuer(t *testing.T, env []string) *issuer {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("Node.js 20 or later is wanted: make prepare installs it (%v)", err)
	}
	if _, err := os.Stat(filepath.Join("issuer", "node_modules", "better-auth-1.7", "package.json")); err != nil {
		t.Fatalf("the issuers are not installed: run make prepare (%v)", err)
	}
	cmd := exec.CommandContext(t.Context(), node, "issuer.mjs")
	cmd.Dir, cmd.Env = "issuer", append(env, "PATH="+os.Getenv("PATH"), "TZ=UTC")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("issuer: %v", err)
		}
		if t.Failed() {
			t.Logf("the issuer printed:\n%s", errs.Bytes()[:min(errs.Len(), 4096)])
		}
	})
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the issuer is not ready: %v", err)
		}
		if text, ok := strings.CutPrefix(line, "issuer: ready "); ok {
			i := &issuer{}
			if err := json.Unmarshal([]byte(text), i); err != nil {
				t.Fatal(err)
			}
			if len(i.Made) < 10 {
				t.Fatalf("the issuer made %d sessions", len(i.Made))
			}
			return i
		}
	}
}

// ask asks the issuer in its own process.
func (i *issuer) ask(t *testing.T, batch []header) []verdict {
	t.Helper()
	var body bytes.Buffer
	encode := func(text *string) any {
		if text == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString([]byte(*text))
	}
	for _, h := range batch {
		if err := json.NewEncoder(&body).Encode([]any{encode(h.cookie), encode(h.authorization)}); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", i.Batch), &body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != len(batch) {
		t.Fatalf("%d answers to %d headers", len(lines), len(batch))
	}
	out := make([]verdict, len(lines))
	for n, line := range lines {
		out[n] = parseVerdict(t, line)
	}
	return out
}

// send sends a header's bytes as they are to the issuer's HTTP server.
func (i *issuer) send(t *testing.T, h header) verdict {
	t.Helper()
	var dialer net.Dialer
	if i.conn == nil {
		conn, err := dialer.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", i.HTTP))
		if err != nil {
			t.Fatal(err)
		}
		i.conn, i.reader = conn, bufio.NewReader(conn)
	}
	var b strings.Builder
	b.WriteString("GET /api/auth/get-session?disableCookieCache=true&disableRefresh=true HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n")
	if h.cookie != nil {
		b.WriteString("Cookie: " + *h.cookie + "\r\n")
	}
	if h.authorization != nil {
		b.WriteString("Authorization: " + *h.authorization + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := i.conn.Write([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(i.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if resp.Close || resp.StatusCode == http.StatusBadRequest {
		if err := i.conn.Close(); err != nil {
			t.Fatal(err)
		}
		i.conn = nil
	}
	if resp.StatusCode != http.StatusOK {
		return verdict{status: resp.StatusCode}
	}
	var answer *struct{ Session, User struct{ ID string } }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		return verdict{}
	}
	return verdict{good: true, session: answer.Session.ID, user: answer.User.ID}
}
