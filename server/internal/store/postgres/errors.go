package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/store"
)

// errDSN hides the parser's text, which may repeat the password.
var errDSN = errors.New("the connection string of the session store cannot be parsed: give postgres://USER@HOST:PORT/DATABASE or host=... user=... dbname=..., and percent-encode special characters in a URL")

var (
	errClosed     = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)
	errFeedClosed = fmt.Errorf("%w: the change feed is closed", store.ErrUnavailable)
)

// server is what may be said of the server in messages.
type server struct {
	address  string
	database string
	user     string
}

func serverOf(c *pgx.ConnConfig) server {
	address := c.Host
	if !strings.HasPrefix(address, "/") { // else a folder of Unix sockets
		address = net.JoinHostPort(c.Host, fmt.Sprint(c.Port))
	}
	return server{address: address, database: c.Database, user: c.User}
}

// String returns user, address and database; the password is not kept.
func (s server) String() string {
	return fmt.Sprintf("%s@%s/%s", s.user, s.address, s.database)
}

// unavailable says what is wrong in words of our own: a driver's text may hold
// values or the connection string.
func (s server) unavailable(err error) error {
	return fmt.Errorf("%w: %s", store.ErrUnavailable, s.reason(err))
}

// reason names what failed and the remedy. The codes are those of appendix A of
// PostgreSQL's manual.
func (s server) reason(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "28P01", "28000":
			return fmt.Sprintf("%s does not let user %q in: check user and password in the connection string, and pg_hba.conf", s.address, s.user)
		case "3D000":
			return fmt.Sprintf("database %q does not exist on %s: correct the connection string", s.database, s.address)
		case "42501":
			return fmt.Sprintf("user %q lacks the right to read the session and user tables of %s: GRANT USAGE ON the SCHEMA and SELECT ON both tables", s.user, s)
		case "42P01", "42703", "3F000":
			return fmt.Sprintf("a table or column of %s that was there is gone: if the schema was migrated, restart", s)
		case "53300":
			return fmt.Sprintf("%s has no connection left: raise its max_connections or lower store.max_conns", s.address)
		case "25006", "55000", "0A000": // no writes; no log position; no unlogged tables
			return fmt.Sprintf("%s is a standby or read-only: connect to the primary (target_session_attrs=read-write in the connection string)", s)
		case "57P01", "57P02", "57P03":
			return fmt.Sprintf("%s is shutting down or starting up", s.address)
		case "57014":
			return fmt.Sprintf("%s cancelled the statement: check statement_timeout and its load", s.address)
		}
		return fmt.Sprintf("%s answered with SQLSTATE %s: see its log", s, pg.Code)
	}
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate), errors.As(err, &record):
		return fmt.Sprintf("no TLS with %s: check sslmode and sslrootcert in the connection string", s.address)
	case errors.As(err, &dns):
		return fmt.Sprintf("host of %s cannot be resolved: check the connection string and DNS", s.address)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf("nothing listens on %s: check that PostgreSQL runs there, and host and port in the connection string", s.address)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return fmt.Sprintf("%s gave no answer in time: check host, port and firewall", s.address)
	case isConnect(err):
		return fmt.Sprintf("no connection to %s: check that PostgreSQL runs there, and host, port and sslmode in the connection string", s.address)
	}
	return fmt.Sprintf("the connection to %s broke", s)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func isConnect(err error) bool {
	var c *pgconn.ConnectError
	return errors.As(err, &c)
}

// stale reports whether err lies in a connection or in what was prepared on it,
// so that the same question may well succeed on another connection.
func stale(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57P01", "57P02": // ended by the server's shutdown
			return !isConnect(err)
		case "0A000", "26000": // a cached plan or a prepared statement is out of date
			return true
		}
		return false
	}
	return !isConnect(err) // refused anew: nothing has changed
}

// undone reports whether the server has refused or rolled back a statement for a
// reason that is gone when it is sent again: what was prepared of it is out of
// date, or it met another transaction.
func undone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{"0A000", "26000", "40001", "40P01"}, pg.Code)
}

// outcomeUnknown reports whether a statement that failed with err, once it had a
// connection, may have been committed all the same. A server's own refusal means
// that it was rolled back, unless it speaks of its end, as does a pooler.
func outcomeUnknown(err error) bool {
	if pgconn.SafeToRetry(err) {
		return false
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true
	}
	return slices.ContainsFunc([]string{"08", "57P", "58", "40003"}, func(class string) bool { return strings.HasPrefix(pg.Code, class) })
}

// feedFailed says what is wrong with a statement of the feed, and the remedy. The
// error wraps [feed.ErrNotInstalled] where the feed, or a right to it, is missing.
func (s server) feedFailed(op string, err error) error {
	var pg *pgconn.PgError
	if errors.Is(err, errNoLife) {
		return fmt.Errorf("%w: %s: %s crashes again and again: see its log", store.ErrUnavailable, op, s)
	}
	if isConnect(err) || !errors.As(err, &pg) {
		return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, op, s.reason(err))
	}
	switch pg.Code {
	case "42P01", "3F000", "42703", "42883":
		return fmt.Errorf("%w as %s needs it in %s: run sessiond feed install", feed.ErrNotInstalled, op, s)
	case "42501":
		return fmt.Errorf("%w for user %q, who lacks a right that %s needs in %s: run sessiond feed install --role %s, or GRANT what it prints", feed.ErrNotInstalled, s.user, op, s, s.user)
	}
	return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, op, s.reason(err))
}
