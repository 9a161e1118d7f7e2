package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// issuer is the real Better Auth of the example workers.
type issuer struct {
	*process
	base string
	http *http.Client
}

// startIssuer runs it on a database and waits until it answers. wrap, if any, is
// a command that runs it, such as taskset. The caller stops it.
func (l *lab) startIssuer(ctx context.Context, db *database, wrap []string) (*issuer, error) {
	node, err := find("node", "nodejs")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.root, "examples", "workers", "issuer")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "better-auth", "package.json")); err != nil {
		return nil, errors.New("the issuer's packages are not installed: run make prepare")
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	i := &issuer{base: "http://" + address, http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}}
	command := append(append([]string{}, wrap...), node, "issuer.mjs")
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], command[1:]...)
	cmd.Dir = dir
	// NODE_ENV stays unset: in production Better Auth limits the rate of calls.
	cmd.Env = environment("DATABASE_URL="+db.dsn, "BETTER_AUTH_SECRET="+db.secret, "PORT="+port, "BASE_URL="+i.base)
	if i.process, err = launch("issuer", cmd); err != nil {
		return nil, err
	}
	if err := i.await(ctx, func(ctx context.Context) error { return get(ctx, i.base+"/api/auth/ok", nil) }); err != nil {
		return nil, errors.Join(err, i.stop())
	}
	return i, nil
}

func (i *issuer) stop() error {
	i.http.CloseIdleConnections()
	return i.end(syscall.SIGTERM)
}

// call calls the issuer's API as a browser does, decodes its answer into result and
// returns the cookies that it sets.
func (i *issuer) call(ctx context.Context, method, path, cookie string, body, result any) (_ []*http.Cookie, err error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, i.base+"/api/auth/"+path, sent)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Origin", i.base)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := i.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("issuer: %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("issuer: %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("issuer: %s: %s", path, resp.Status)
	}
	if err := json.Unmarshal(text, result); err != nil {
		return nil, fmt.Errorf("issuer: %s: %w", path, err)
	}
	return resp.Cookies(), nil
}

// session asks the issuer for the session of a cookie, and wants one.
func (i *issuer) session(ctx context.Context, cookie string) error {
	var answer *struct{ Session struct{ ID string } }
	if _, err := i.call(ctx, http.MethodGet, "get-session", cookie, nil, &answer); err != nil {
		return err
	}
	if answer == nil || answer.Session.ID == "" {
		return fmt.Errorf("issuer: get-session: %w", errNoSession)
	}
	return nil
}

// password is of the accounts that are made here; their database ends with the run.
const password = "correct horse battery staple"

// signUp makes an account.
func (i *issuer) signUp(ctx context.Context, email string) error {
	var answer struct{ User struct{ ID string } }
	_, err := i.call(ctx, http.MethodPost, "sign-up/email", "", map[string]string{"email": email, "password": password, "name": "A User"}, &answer)
	if err == nil && answer.User.ID == "" {
		err = errors.New("issuer: sign-up: the answer holds no user")
	}
	return err
}

// signIn returns the cookie of a new session.
func (i *issuer) signIn(ctx context.Context, email string) (string, error) {
	var answer struct{ User struct{ ID string } }
	cookies, err := i.call(ctx, http.MethodPost, "sign-in/email", "", map[string]string{"email": email, "password": password}, &answer)
	if err != nil {
		return "", err
	}
	for _, c := range cookies {
		if c.Name == cookieName {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", errors.New("issuer: sign-in: the answer sets no session cookie")
}

// signOut ends the session of a cookie.
func (i *issuer) signOut(ctx context.Context, cookie string) error {
	var answer struct{ Success bool }
	_, err := i.call(ctx, http.MethodPost, "sign-out", cookie, struct{}{}, &answer)
	if err == nil && !answer.Success {
		err = errors.New("issuer: sign-out: not done")
	}
	return err
}
