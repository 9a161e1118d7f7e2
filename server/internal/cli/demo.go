package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/store/sqlite"
	"github.com/sessiond/sessiond/sessioncookie"
)

// demo makes a session as the issuer would, has the running server validate it
// and a tampered copy, and prints lines to paste. The cookie goes to files that
// only the user may read, never to the terminal.
func demo(ctx context.Context, address, dir string, cfg config.Config, w io.Writer) error {
	cookie, err := seedDemo(ctx, cfg)
	if err != nil {
		return fmt.Errorf("demo session: %w", err)
	}
	good, bad := filepath.Join(dir, "demo.cookie"), filepath.Join(dir, "tampered.cookie")
	if err := errors.Join(os.WriteFile(good, []byte(cookie), 0o600), os.WriteFile(bad, []byte(tamper(cookie)), 0o600)); err != nil {
		return err
	}

	c, err := client.New(address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the demo is over
	out := &printer{w: w}
	out.line("")
	out.line("A demo session is in the embedded database. Asked over gRPC, the authority says:")
	for _, header := range []string{cookie, tamper(cookie)} {
		session, err := c.Validate(ctx, client.FromHeaders(header, ""))
		switch {
		case err == nil:
			out.line("  %-20s good: user %s, expires %s", "the cookie:", session.User.Email, session.ExpiresAt.Format(time.RFC3339))
		case errors.Is(err, client.ErrInvalid):
			out.line("  %-20s refused: %s", "one byte changed:", client.ReasonOf(err))
		default:
			return err
		}
	}
	out.line("")
	out.line("Try it from another terminal:")
	self, grpcurl := os.Args[0], "grpcurl"
	if _, err := os.Stat("tools/grpcurl.mod"); err == nil { // in a checkout
		grpcurl = "go tool -modfile=tools/grpcurl.mod grpcurl"
	}
	out.line("  %s validate --server %s --file %s", self, address, good)
	out.line("  %s validate --server %s --file %s", self, address, bad)
	out.line("  %s explain --data-dir %s --file %s", self, dir, bad)
	out.line("  %s -plaintext -d \"{\\\"credential\\\":{\\\"headers\\\":{\\\"cookie\\\":\\\"$(base64 < %s | tr -d '\\n')\\\"}}}\" %s sessiond.v1.SessionService/Validate", grpcurl, good, address)
	out.line("")
	out.line("Ctrl-C stops the server.")
	return out.err
}

func seedDemo(ctx context.Context, cfg config.Config) (cookie string, err error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	user := store.User{ID: "demo-" + rand.Text()[:6], Name: "Demo User", EmailVerified: true, CreatedAt: now, UpdatedAt: now}
	user.Email = strings.ToLower(user.ID) + "@example.com" // new each time: e-mail addresses are unique
	ip, agent := "127.0.0.1", "sessiond serve --dev"
	session := store.Session{
		ID: rand.Text(), UserID: user.ID, CreatedAt: now, UpdatedAt: now,
		ExpiresAt: now.Add(cfg.Server.Authority.Policy.ExpiresIn), IPAddress: &ip, UserAgent: &agent,
	}
	token := sessioncookie.NewToken()
	if err := sqlite.Seed(ctx, cfg.Server.Store.Path, user, session, token); err != nil {
		return "", err
	}
	cookies := cfg.Server.Authority.Cookies
	name := cookies.Names[len(cookies.Names)-1] // the plain one: the demo has no https
	return name + "=" + sessioncookie.Encode(sessioncookie.Sign(token, cookies.Secrets[0])), nil
}

// tamper changes one character of the token.
func tamper(cookie string) string {
	at := strings.IndexByte(cookie, '=') + 1
	replacement := "A"
	if cookie[at] == 'A' {
		replacement = "B"
	}
	return cookie[:at] + replacement + cookie[at+1:]
}
