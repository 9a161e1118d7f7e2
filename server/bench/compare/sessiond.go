package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// storeConns is the size of every pool that is compared, the server's and others'.
const storeConns = 16

// authority is the built server on a database.
type authority struct {
	*process
	address, admin string
	startedAt      time.Time // just before it was executed
	ready          time.Duration
}

// installFeed installs the change feed as an operator does.
func (l *lab) installFeed(ctx context.Context, db *database) error {
	cmd := exec.CommandContext(ctx, l.binary, "feed", "install", "--yes", "--store-driver", "postgres")
	cmd.Env = environment("SESSIOND_STORE_DSN=" + db.dsn)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sessiond feed install: %w\n%s", err, text)
	}
	return nil
}

// startAuthority runs the server and waits until it is ready. wrap, if any, is a
// command that runs it, such as taskset. The caller stops it.
func (l *lab) startAuthority(ctx context.Context, db *database, wrap []string, flags ...string) (*authority, error) {
	a := &authority{}
	var err error
	if a.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if a.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	command := append(append([]string{}, wrap...), l.binary, "serve", "--listen", a.address, "--admin-listen", a.admin,
		"--issuer-base-url", "http://localhost", "--log-level", "warn")
	env := []string{"SESSIOND_ISSUER_SECRET=" + db.secret}
	if db.dsn != "" {
		flags = append(flags, "--store-driver", "postgres", "--store-max-conns", strconv.Itoa(storeConns))
		env = append(env, "SESSIOND_STORE_DSN="+db.dsn)
	}
	if db.secondary != "" {
		env = append(env, "SESSIOND_SECONDARY_URL="+db.secondary)
	}
	if db.secondary != "" && db.dsn != "" {
		flags = append(flags, "--secondary-store-in-database")
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), command[0], append(command[1:], flags...)...)
	cmd.Env = environment(env...)
	cmd.Dir = l.dir
	a.startedAt = time.Now()
	if a.process, err = launch("sessiond", cmd); err != nil {
		return nil, err
	}
	if err := a.await(ctx, func(ctx context.Context) error { return get(ctx, "http://"+a.admin+"/readyz", nil) }); err != nil {
		return nil, errors.Join(err, a.stop())
	}
	a.ready = time.Since(a.startedAt)
	return a, nil
}

func (a *authority) stop() error { return a.end(syscall.SIGTERM) }

// web is for the programs' own HTTP doors.
var web = &http.Client{Timeout: 10 * time.Second}

// get calls an HTTP door that answers 200, and hands its lines to a function.
func get(ctx context.Context, url string, line func(string) error) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if line == nil {
			continue
		}
		if err := line(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// metric returns the sum of a metric over its labels.
func (a *authority) metric(ctx context.Context, name string) (float64, error) {
	sum, found := 0.0, false
	err := get(ctx, "http://"+a.admin+"/metrics", func(line string) error {
		labelled, number, _ := strings.Cut(line, " ")
		if i := strings.LastIndexByte(line, '}'); i >= 0 {
			labelled, number = line[:i+1], strings.TrimSpace(line[i+1:])
		}
		if bare, _, _ := strings.Cut(labelled, "{"); bare != name {
			return nil
		}
		v, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return fmt.Errorf("metric %s: %w", name, err)
		}
		sum, found = sum+v, true
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("the server has no metric %s", name)
	}
	return sum, err
}

// decided returns how many credentials the authority has decided: what a client
// answers from its cache is not among them.
func (a *authority) decided(ctx context.Context) (float64, error) {
	return a.metric(ctx, "sessiond_verdicts_total")
}

// worker returns a worker's client of the authority. The caller closes it.
func (a *authority) worker() (*client.Client, error) { return client.New("dns:///" + a.address) }

// settlePatience is how long a client may take until it answers from its cache.
const settlePatience = 15 * time.Second

// spareSessions is how many sessions settle may need: one an interval.
const (
	spareSessions  = 256
	settleInterval = 100 * time.Millisecond
)

// settle waits until a client's Watch is as it is at all times but the first
// second: one call brings a session into its cache, and the next is answered from
// it. Each attempt takes another of the spare sessions. false: it never was.
func (a *authority) settle(ctx context.Context, c *client.Client, spare []client.Credential) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	ticker := time.NewTicker(settleInterval)
	defer ticker.Stop()
	for _, credential := range spare {
		var decided [3]float64
		for i := range decided {
			if i > 0 {
				if _, err := c.Validate(ctx, credential); err != nil {
					return false, err
				}
			}
			var err error
			if decided[i], err = a.decided(ctx); err != nil {
				return false, err
			}
		}
		if decided[1] == decided[0]+1 && decided[2] == decided[1] {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, nil // whoever is interrupted sees it at his next step
		case <-ticker.C:
		}
	}
	return false, nil
}

// stub is a generated client on a connection of its own.
type stub struct {
	sessiondv1.SessionServiceClient
	*grpc.ClientConn
}

func dial(address string) (*stub, error) {
	conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &stub{sessiondv1.NewSessionServiceClient(conn), conn}, nil
}

var errNoSession = errors.New("the answer holds no session")

// validate asks and wants a session.
func (s *stub) validate(ctx context.Context, request *sessiondv1.ValidateRequest) error {
	answer, err := s.Validate(ctx, request)
	if err == nil && answer.GetSession() == nil {
		err = errNoSession
	}
	return err
}

// fill has the authority remember the sessions of all requests, a batch at a time.
func (s *stub) fill(ctx context.Context, requests []*sessiondv1.ValidateRequest) error {
	const batch = 128
	_, err := drive(ctx, 1, (len(requests)+batch-1)/batch, 0, func(ctx context.Context, i int) error {
		asked := requests[i*batch : min((i+1)*batch, len(requests))]
		request := &sessiondv1.BatchValidateRequest{}
		for _, r := range asked {
			request.Credentials = append(request.Credentials, r.GetCredential())
		}
		answer, err := s.BatchValidate(ctx, request)
		if err != nil {
			return err
		}
		for _, verdict := range answer.GetVerdicts() {
			if verdict.GetSession() == nil {
				return errNoSession
			}
		}
		return nil
	})
	return err
}
