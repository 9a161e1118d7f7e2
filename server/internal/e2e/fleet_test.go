package e2e_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/pgtest"
)

const (
	sessionCookie = "better-auth.session_token"
	userPassword  = "correct horse battery staple"
)

// fleet is everything a deployment has: database, issuer, authority, workers.
type fleet struct {
	binaries string
	cluster  *pgtest.Cluster
	dsn      string
	// settings are further flags of the authority; redis is the issuer's secondary
	// storage, empty where it has none.
	settings []string
	redis    string
	secret   string
	issuer   *issuer
	// authority is where sessiond is, or will be; sessiond is the process, nil while none runs.
	authority string
	sessiond  *process
	processes []*process
	doors     []*door
	recent    *door // wants a recent sign-in, so it is no part of doors
}

// newFleet starts the fleet, except for the authority.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	root := moduleRoot(t)
	f := &fleet{binaries: t.TempDir(), secret: rand.Text() + rand.Text(), authority: "127.0.0.1:" + freePort(t)}
	build(t, root, f.binaries)
	f.cluster = pgtest.StartOwn(t)
	f.dsn = f.cluster.NewDatabase(t)
	f.issuer = startIssuer(t, root, f.dsn, f.secret)
	f.installFeed(t)

	content, identity, web := f.worker(t, "content"), f.worker(t, "identity"), f.worker(t, "web")
	organization := f.worker(t, "organization", "--identity="+identity.address(t))
	whoAmI, closeAccount := identityDoors(t, identity)
	f.doors = append(contentDoors(t, content), whoAmI, organizationDoor(t, organization, whoAmI), webDoor(t, web))
	f.recent = closeAccount
	f.processes = []*process{f.issuer.process, content, identity, web, organization}
	return f
}

// moduleRoot returns the folder of go.mod. It looks at every folder of the module:
// the programs are built outside the test binary, so this is how the test cache
// learns that a change of any file makes a kept result worthless.
func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// build compiles the authority and the workers into dir.
func build(t *testing.T, root, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator),
		"./server/cmd/sessiond", "./examples/workers/content", "./examples/workers/identity", "./examples/workers/organization", "./examples/workers/web")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// worker starts one of the example's workers on a free port.
func (f *fleet) worker(t *testing.T, name string, args ...string) *process {
	t.Helper()
	args = append([]string{"--listen=127.0.0.1:0", "--authority=" + f.authority}, args...)
	return start(t, name, "", []string{}, filepath.Join(f.binaries, name), args...)
}

// startAuthority runs sessiond, always on the same address, and waits until it serves.
func (f *fleet) startAuthority(t *testing.T) {
	t.Helper()
	env := []string{"SESSIOND_STORE_DSN=" + f.dsn, "SESSIOND_ISSUER_SECRET=" + f.secret}
	if f.redis != "" {
		env = append(env, "SESSIOND_SECONDARY_URL="+f.redis)
	}
	f.sessiond = start(t, "sessiond", t.TempDir(), env, filepath.Join(f.binaries, "sessiond"),
		append([]string{"serve", "--listen=" + f.authority, "--admin-listen=", "--store-driver=postgres"}, f.settings...)...)
	f.processes = append(f.processes, f.sessiond)
	if got := f.sessiond.address(t); got != f.authority {
		t.Fatalf("sessiond serves on %s, want %s", got, f.authority)
	}
}

// installFeed installs the change feed with the program, as an operator would.
func (f *fleet) installFeed(t *testing.T, flags ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(f.binaries, "sessiond"), append([]string{"feed", "install", "--yes", "--store-driver=postgres"}, flags...)...)
	cmd.Env = []string{"SESSIOND_STORE_DSN=" + f.dsn}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("feed install: %v\n%s", err, out)
	}
}

// settle returns when every worker knows of everything that is committed: it
// revokes a session that nobody has, and a Revoke returns when all that happened
// before it has reached everybody.
func (f *fleet) settle(t *testing.T) {
	t.Helper()
	conn, err := grpc.NewClient(f.authority, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = sessiondv1.NewSessionAdminServiceClient(conn).RevokeSession(t.Context(), &sessiondv1.RevokeSessionRequest{
		Session: &sessiondv1.RevokeSessionRequest_Ref{Ref: &sessiondv1.SessionRef{UserId: "nobody", SessionId: "none"}},
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
}

// exec runs one statement in the issuer's database and wants it to touch one row.
func (f *fleet) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	tag, err := conn.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	if tag.RowsAffected() != 1 {
		t.Fatalf("%d rows were touched, want 1", tag.RowsAffected())
	}
}

// secrets returns what no program may print, by what it is: the configured
// secrets, and the token and signature of each credential.
func (f *fleet) secrets(t *testing.T, credentials map[string]string) map[string]string {
	t.Helper()
	dsn, err := url.Parse(f.dsn)
	if err != nil {
		t.Fatal("the database's DSN is not a URL")
	}
	password, _ := dsn.User.Password()
	out := map[string]string{"the issuer's secret": f.secret, "the database's password": password, "the user's password": userPassword}
	for name, credential := range credentials {
		token, signature, found := strings.Cut(credential, ".")
		if !found {
			t.Fatalf("the %s credential has no signature", name)
		}
		out["the token of the "+name+" credential"] = token
		out["the signature of the "+name+" credential"] = signature
		out["the encoded signature of the "+name+" credential"] = url.QueryEscape(signature)
	}
	return out
}

// freePort finds a port below the range the kernel takes ports for outgoing
// connections from, so that it stays free while its program restarts.
func freePort(t *testing.T) string {
	t.Helper()
	const low, high = 20000, 32000
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(high-low))
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(low + int(n.Int64()))
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			continue // taken
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return ""
}
