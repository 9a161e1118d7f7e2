package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/server/internal/pgtest"
	"github.com/sessiond/sessiond/sessioncookie"
)

// TestDoctor has the program check a deployment of Better Auth on PostgreSQL: that
// it agrees about a live cookie, and that a secret of another deployment is found.
// A running authority that holds its verdicts against the issuer's agrees too.
func TestDoctor(t *testing.T) {
	root, dir, secret := moduleRoot(t), t.TempDir(), sessioncookie.NewToken()+sessioncookie.NewToken()
	sessiond := filepath.Join(dir, "sessiond")
	buildSessiond := exec.CommandContext(t.Context(), "go", "build", "-o", sessiond, "./server/cmd/sessiond")
	buildSessiond.Dir = root
	if out, err := buildSessiond.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dsn := pgtest.Start(t).NewDatabase(t)
	better := startIssuer(t, root, dsn, secret)
	ada := newBrowser(t, better)
	adaUser := ada.signUp(t)
	environment := func(secret string) []string {
		return []string{
			"SESSIOND_STORE_DRIVER=postgres", "SESSIOND_STORE_DSN=" + dsn, "SESSIOND_ISSUER_SECRET=" + secret,
			"SESSIOND_ISSUER_BASE_URL=" + better.base.String(),
		}
	}
	run := func(stdin string, env []string, args ...string) (code int, out string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), sessiond, args...)
		cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
		text, err := cmd.Output()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		for what, value := range map[string]string{"token": ada.credential(t)[:16], "secret": secret[:16]} {
			if bytes.Contains(text, []byte(value)) {
				t.Errorf("the %s is in the output of %s", what, args[0])
			}
		}
		return cmd.ProcessState.ExitCode(), string(text)
	}
	if code, out := run("", environment(secret), "feed", "install", "--yes"); code != 0 {
		t.Fatalf("feed install: exit %d: %s", code, out)
	}

	authority, admin := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	env := append(environment(secret), "SESSIOND_SHADOW_ISSUER_URL="+better.base.String(), "SESSIOND_SHADOW_SAMPLE=1", "SESSIOND_SHADOW_PER_MINUTE=6000")
	p := start(t, "sessiond", t.TempDir(), env, sessiond, "serve", "--listen="+authority, "--admin-listen="+admin)
	p.address(t)

	t.Run("doctor agrees", func(t *testing.T) {
		code, out := run(ada.cookie(t), environment(secret), "doctor", "--cookie-file", "-", "--server", authority, "--json")
		var report struct {
			Worst    string
			Findings []struct{ Severity, Check, What string }
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
			t.Fatalf("exit %d, %v: %s", code, err, out)
		}
		agreed := 0
		for _, f := range report.Findings {
			if f.Check == "parity" && f.Severity == "ok" && strings.Contains(f.What, "of user "+adaUser.ID) {
				agreed++
			}
		}
		if agreed != 2 { // here, and at the authority
			t.Errorf("agreed %d times of 2: %s", agreed, out)
		}
	})
	t.Run("doctor finds another secret", func(t *testing.T) {
		code, out := run(ada.cookie(t), environment(sessioncookie.NewToken()), "doctor", "--cookie-file", "-")
		for _, want := range []string{"fail     signature", "fail     parity", "refused (BAD_SIGNATURE), the issuer says good", "of user " + adaUser.ID} {
			if code != 4 || !strings.Contains(out, want) {
				t.Errorf("exit %d, %q is not in:\n%s", code, want, out)
			}
		}
	})
	t.Run("the shadow check agrees", func(t *testing.T) {
		c, err := client.New(authority)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		forged := sessionCookie + "=" + sessioncookie.Encode(tamper(ada.credential(t)))
		for _, header := range []string{ada.cookie(t), forged, "theme=dark"} {
			if _, err := c.Validate(t.Context(), client.FromHeaders(header, "")); (err == nil) != (header == ada.cookie(t)) {
				t.Fatal(err)
			}
		}
		// The client sends nothing that has no session cookie, so two are compared.
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); ; <-tick.C {
			agree, other := shadowed(t, admin, "agree"), shadowed(t, admin, "disagree")+shadowed(t, admin, "unknown")
			if other > 0 {
				t.Fatalf("%d did not agree: %s", other, p.journal.text())
			}
			if agree >= 2 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d compared", agree)
			}
		}
	})
}

// shadowed reads how many comparisons had a result.
func shadowed(t *testing.T, admin, result string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^sessiond_shadow_total\{result="` + result + `"\} (\d+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no count of %s", result)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
