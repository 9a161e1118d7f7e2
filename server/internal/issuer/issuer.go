// Package issuer asks Better Auth itself about a credential. sessiond needs no
// issuer to decide; this is for holding its verdicts against the issuer's.
package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultBasePath is Better Auth's basePath where none is configured.
const DefaultBasePath = "/api/auth"

const (
	// timeout bounds a question whatever its context allows.
	timeout = 5 * time.Second
	// maxBody bounds the answer that is read.
	maxBody = 1 << 20
)

// ErrNoVerdict means that the issuer gave no answer that is a verdict: it was not
// reached, failed, or is not Better Auth. It says nothing about the session.
var ErrNoVerdict = errors.New("the issuer gave no verdict")

// Verdict is what the issuer says of a credential.
type Verdict struct {
	// Good: it answered with a session.
	Good bool
	// SessionID and UserID name it. Issuers with secondary storage may leave
	// SessionID empty.
	SessionID, UserID string
}

// Client asks an issuer's get-session. It is safe for concurrent use.
type Client struct {
	endpoint string
	http     *http.Client
}

// New returns a client of the issuer at base, its base URL with its base path. It
// does no I/O.
func New(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the issuer's URL is not an http or https URL with its base path, like https://auth.example.com" + DefaultBasePath)
	}
	u = u.JoinPath("get-session")
	// Old issuers ignore disableRefresh, and may refresh.
	u.RawQuery = "disableCookieCache=true&disableRefresh=true"
	return &Client{endpoint: u.String(), http: &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		// A redirect would carry the cookie to wherever it points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// BaseOf returns what New takes for an issuer's baseURL option: as Better Auth
// does, the default base path is added unless the URL has a path of its own.
func BaseOf(baseURL string) string {
	u, err := url.Parse(baseURL)
	if err != nil || strings.Trim(u.Path, "/") != "" {
		return baseURL
	}
	return strings.TrimRight(baseURL, "/") + DefaultBasePath
}

// Ask returns the issuer's verdict on the headers of a request. An error wraps
// ErrNoVerdict or the context's error, and repeats nothing of the headers.
func (c *Client) Ask(ctx context.Context, cookie, authorization string) (Verdict, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint, nil)
	if err != nil {
		return Verdict{}, fmt.Errorf("%w: the request cannot be made", ErrNoVerdict)
	}
	for name, value := range map[string]string{"Cookie": cookie, "Authorization": authorization} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return Verdict{}, fmt.Errorf("ask the issuer: %w", ctx.Err())
		}
		return Verdict{}, fmt.Errorf("%w: %s", ErrNoVerdict, reason(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return Verdict{}, fmt.Errorf("%w: its answer broke off", ErrNoVerdict)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return Verdict{}, fmt.Errorf("%w: it redirects (status %d), and the cookie is not sent elsewhere: give the URL it redirects to", ErrNoVerdict, resp.StatusCode)
	case resp.StatusCode == http.StatusNotFound:
		return Verdict{}, fmt.Errorf("%w: there is no get-session (status 404): give its base URL with the basePath, usually %s", ErrNoVerdict, DefaultBasePath)
	case resp.StatusCode != http.StatusOK:
		return Verdict{}, fmt.Errorf("%w: it answered with status %d: see its log", ErrNoVerdict, resp.StatusCode)
	case len(body) > maxBody:
		return Verdict{}, fmt.Errorf("%w: its answer is over %d bytes", ErrNoVerdict, maxBody)
	}
	return parse(body)
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// parse reads the body of get-session: null, or a session with its user.
func parse(body []byte) (Verdict, error) {
	if string(bytes.TrimSpace(body)) == "null" {
		return Verdict{}, nil
	}
	var answer struct {
		Session *struct {
			ID     identifier `json:"id"`
			UserID identifier `json:"userId"`
		} `json:"session"`
		User *struct {
			ID identifier `json:"id"`
		} `json:"user"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Session == nil || answer.User == nil || answer.User.ID == "" {
		return Verdict{}, fmt.Errorf("%w: its answer is neither null nor a session with its user", ErrNoVerdict)
	}
	return Verdict{Good: true, SessionID: string(answer.Session.ID), UserID: string(answer.User.ID)}, nil
}

// identifier is an id, which adapters may give as a number.
type identifier string

// UnmarshalJSON takes a string or a number.
func (i *identifier) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err == nil {
		*i = identifier(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	*i = identifier(n)
	return nil
}

// reason says in words of our own why the issuer was not reached: the transport's
// text may hold what is in the URL.
func reason(err error) string {
	var timedOut net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "its host cannot be resolved"
	case errors.As(err, &timedOut) && timedOut.Timeout():
		return fmt.Sprintf("no answer within %v", timeout)
	}
	var u *url.Error
	if errors.As(err, &u) {
		var op *net.OpError
		if errors.As(u.Err, &op) {
			return "no connection: " + op.Err.Error()
		}
		if strings.Contains(u.Err.Error(), "x509") || strings.Contains(u.Err.Error(), "tls") {
			return "no TLS with it: " + u.Err.Error()
		}
	}
	return "the connection broke"
}
