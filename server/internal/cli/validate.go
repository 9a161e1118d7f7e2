package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sessiond/sessiond/client"
)

const validateTimeout = 5 * time.Second

func validate(ctx context.Context, args []string, s Streams, _ []string) int {
	fs := flag.NewFlagSet("validate", flag.ContinueOnError)
	address := fs.String("server", "127.0.0.1:8443", "HOST:PORT: the authority's address (127.0.0.1:8443)")
	insecure := fs.Bool("insecure", false, "speak plaintext to an address that is not loopback")
	ca := fs.String("tls-ca", "", "FILE: speak TLS and trust the authorities in this PEM file")
	useTLS := fs.Bool("tls", false, "speak TLS and trust the system's authorities")
	asJSON := fs.Bool("json", false, "print JSON")
	var from inputFlags
	from.register(fs)
	if code, goOn := parse(fs, args, s, "sessiond validate [--server HOST:PORT] [--file FILE] [--json] < COOKIE_HEADER\n\nAsks a running authority, as a worker does. Exit code 0: good, 1: refused, 3: undecided."); !goOn {
		return code
	}
	options, err := dialOptions(*address, *insecure, *useTLS, *ca)
	if err != nil {
		fail(s, "validate: %v", err)
		return exitUsage
	}
	in, err := from.read(s.In)
	if err != nil {
		fail(s, "validate: %v", err)
		return exitUsage
	}
	c, err := client.New(*address, options...)
	if err != nil {
		fail(s, "validate: %v", err)
		return exitUsage
	}
	defer c.Close() //nolint:errcheck // the process ends
	ctx, cancel := context.WithTimeout(ctx, validateTimeout)
	defer cancel()
	session, err := c.Validate(ctx, in.client())
	return report(s, session, err, *asJSON)
}

func dialOptions(address string, insecure, useTLS bool, ca string) ([]client.Option, error) {
	switch {
	case insecure && (useTLS || ca != ""):
		return nil, errors.New("--insecure and --tls exclude each other")
	case insecure:
		return []client.Option{client.WithInsecure()}, nil
	case ca != "":
		pool, err := readPool(ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		return []client.Option{client.WithTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})}, nil
	case useTLS:
		return []client.Option{client.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12})}, nil
	default:
		return nil, nil
	}
}

// readPool reads the certificates of a PEM file.
func readPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

func (in input) client() client.Credential {
	switch in.form {
	case formValue:
		return client.CookieValue(in.value)
	case formToken:
		return client.Token(in.value)
	default:
		return client.FromHeaders(in.cookie, in.authorization)
	}
}

// verdictJSON is what validate --json prints.
type verdictJSON struct {
	Verdict   string `json:"verdict"` // good, refused, undecided
	Reason    string `json:"reason,omitempty"`
	ExplainID string `json:"explain_id,omitempty"`
	// UnreadCookies arrived, and the authority does not read them.
	UnreadCookies []string     `json:"unread_cookies,omitempty"`
	Error         string       `json:"error,omitempty"`
	Session       *sessionJSON `json:"session,omitempty"`
	NeedsRefresh  bool         `json:"needs_refresh,omitempty"`
}

type sessionJSON struct {
	ID        string    `json:"id"`
	UserID    string    `json:"user_id"`
	Email     string    `json:"email"`
	Name      string    `json:"name"`
	Role      string    `json:"role,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func report(s Streams, session *client.Session, err error, asJSON bool) int {
	v, code := verdictJSON{Verdict: "good"}, exitGood
	switch {
	case err == nil:
		v.NeedsRefresh = session.NeedsRefresh
		v.Session = &sessionJSON{
			ID: session.ID, UserID: session.UserID, Email: session.User.Email, Name: session.User.Name, Role: session.User.Role,
			CreatedAt: session.CreatedAt, UpdatedAt: session.UpdatedAt, ExpiresAt: session.ExpiresAt,
		}
	case errors.Is(err, client.ErrInvalid), errors.Is(err, client.ErrNoCredential):
		v.Verdict, v.Reason, v.ExplainID, code = "refused", string(client.ReasonOf(err)), client.ExplainIDOf(err), exitRefused
		v.UnreadCookies = client.UnreadCookiesOf(err)
	default:
		v.Verdict, v.Error, code = "undecided", err.Error(), exitUndecided
	}
	if asJSON {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			fail(s, "%v", err)
			return exitFailed
		}
		return code
	}
	out := &printer{w: s.Out}
	switch code {
	case exitGood:
		out.line("good: user %s (%s), session %s, expires %s", v.Session.UserID, v.Session.Email, v.Session.ID, v.Session.ExpiresAt.UTC().Format(time.RFC3339))
	case exitRefused:
		out.line("refused: %s", v.Reason)
		if len(v.UnreadCookies) > 0 {
			out.line("not read, and shaped like a session cookie: %s", strings.Join(v.UnreadCookies, ", "))
		}
		if v.ExplainID != "" {
			(&printer{w: s.Err}).line("sessiond explain --id %s, as an operator, says why.", v.ExplainID)
		} else {
			(&printer{w: s.Err}).line("sessiond explain, with the server's configuration, says why.")
		}
	default:
		out.line("undecided: %s", v.Error)
	}
	return code
}
