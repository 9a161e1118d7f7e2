package cli

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/config"
)

func serve(ctx context.Context, args []string, s Streams, env []string) int {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	given := config.RegisterFlags(fs)
	file := fs.String("config", "", "FILE: configuration file, TOML (SESSIOND_CONFIG)")
	dev := fs.Bool("dev", false, "make a demo session in the embedded database, validate it, and print lines to paste")
	if code, goOn := parse(fs, args, s, "sessiond serve [--config FILE] [--dev] [FLAGS]\n\nRuns the authority until it is interrupted. Without configuration: an embedded SQLite file, loopback only."); !goOn {
		return code
	}
	cfg, err := config.Load(config.Sources{Flags: given, Env: env, File: *file}, true)
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	if *dev && !cfg.Embedded {
		fail(s, "--dev makes a demo session and so runs on the embedded database only: leave store.driver and store.path unset")
		return exitUsage
	}
	log := newLogger(cfg.Log, s)
	if cfg.Server.Insecure {
		log.Warn("insecure is set: listeners that are not loopback may be plaintext")
	}
	srv, err := server.New(ctx, cfg.Server, log)
	if err != nil {
		fail(s, "%v", err)
		return exitFailed
	}
	logStart(log, srv, cfg)
	if *dev {
		err = runWithDemo(ctx, srv, cfg, s)
	} else {
		err = srv.Run(ctx)
	}
	if err != nil {
		log.Error("stopped", "error", err)
		return exitFailed
	}
	log.Info("stopped")
	return exitGood
}

// runWithDemo serves, and beside it asks the server about a demo session. A demo
// that fails stops the server.
func runWithDemo(ctx context.Context, srv *server.Server, cfg config.Config, s Streams) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shown := make(chan error, 1)
	go func() {
		err := demo(ctx, srv.Addr().String(), filepath.Dir(cfg.Server.Store.Path), cfg, s.Out)
		if ctx.Err() != nil {
			err = nil // interrupted
		}
		if err != nil {
			cancel()
		}
		shown <- err
	}()
	err := srv.Run(ctx)
	cancel()
	return errors.Join(err, <-shown)
}

func newLogger(l config.Log, s Streams) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(s.Err, options))
	}
	return slog.New(slog.NewTextHandler(s.Err, options))
}

// unquote drops SQL's quotes, which a log would quote again.
func unquote(name string) string { return strings.ReplaceAll(name, `"`, "") }

func logStart(log *slog.Logger, srv *server.Server, cfg config.Config) {
	d := srv.Store()
	log.Info("store open", "driver", d.Driver, "location", d.Location, "session_table", unquote(d.Session.Name), "user_table", unquote(d.User.Name), "token_index", d.Session.TokenIndex)
	if len(d.Session.Attributes)+len(d.User.Attributes) > 0 {
		log.Info("additional columns are returned to workers; store.session_hide and store.user_hide leave columns out", "session", d.Session.Attributes, "user", d.User.Attributes)
	}
	log.Info("reading credentials", "cookies", cfg.Server.Authority.Cookies.Names, "bearer", cfg.Server.Authority.Cookies.Bearer, "issuer_version", cfg.Server.Authority.Cookies.Version.String())
	attributes := []any{"address", srv.Addr().String(), "tls", cfg.Server.TLS.Cert != ""}
	if a := srv.AdminAddr(); a != nil {
		attributes = append(attributes, "admin_address", a.String())
	}
	log.Info("serving", attributes...)
}
