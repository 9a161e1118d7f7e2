package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/sessiond/sessiond/server/internal/config"
	"github.com/sessiond/sessiond/server/internal/doctor"
	"github.com/sessiond/sessiond/server/internal/issuer"
)

// doctorTimeout bounds all checks together, the wait for two beats of a long
// staleness bound excluded.
const doctorTimeout = time.Minute

const doctorSynopsis = `sessiond doctor [--cookie-file FILE] [--issuer URL] [--server HOST:PORT] [--json] [FLAGS]

Checks a deployment from outside in, with serve's configuration: schema, index, cookies, secret, change feed,
clocks, pooler, TLS; with a live Cookie header also whether the issuer decides as we do; with --server also
the running authorities. Changes nothing; prints no token, cookie value or secret. An old issuer may
refresh the session that it is asked about. What each check means: docs/doctor.md.
Exit code 0: all well; 1: something is to be mended (warn); 4: something does not work (fail); 2: wrong usage.`

func doctorCommand(ctx context.Context, args []string, s Streams, env []string) int {
	fs := flag.NewFlagSet("doctor", flag.ContinueOnError)
	given := config.RegisterFlags(fs)
	file := fs.String("config", "", "FILE: configuration file, TOML (SESSIOND_CONFIG)")
	cookie := fs.String("cookie-file", "", "FILE: a Cookie header of somebody who is signed in; - reads it from standard input")
	issuerURL := fs.String("issuer", "", "URL: the issuer's base URL with its basePath (issuer.base_url and "+issuer.DefaultBasePath+")")
	address := fs.String("server", "", "HOST:PORT: a running authority, or the name of all replicas")
	plain := fs.Bool("server-insecure", false, "speak plaintext to a --server that is not loopback")
	ca := fs.String("server-tls-ca", "", "FILE: speak TLS to --server and trust the authorities in this PEM file")
	useTLS := fs.Bool("server-tls", false, "speak TLS to --server and trust the system's authorities")
	asJSON := fs.Bool("json", false, "print JSON")
	if code, goOn := parse(fs, args, s, doctorSynopsis); !goOn {
		return code
	}
	cfg, err := config.Load(config.Sources{Flags: given, Env: env, File: *file}, false)
	if err != nil {
		fail(s, "%v", err)
		return exitUsage
	}
	d := doctor.Config{
		Server: cfg.Server, SecretFiles: cfg.SecretFiles,
		IssuerURL: *issuerURL, Address: *address,
	}
	if d.IssuerURL == "" && cfg.IssuerURL != "" {
		d.IssuerURL = issuer.BaseOf(cfg.IssuerURL)
	}
	if d.TLS, err = doctorTLS(*address, *plain, *useTLS, *ca); err != nil {
		fail(s, "doctor: %v", err)
		return exitUsage
	}
	if *cookie != "" {
		from := inputFlags{file: *cookie, as: formHeaders}
		if *cookie == "-" {
			from.file = ""
		}
		in, err := from.read(s.In)
		if err != nil {
			fail(s, "doctor: %v", err)
			return exitUsage
		}
		d.Cookie, d.Authorization = in.cookie, in.authorization
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout+cfg.Server.Authority.StalenessBound)
	defer cancel()
	report := doctor.Run(ctx, d)
	if *asJSON {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			fail(s, "%v", err)
			return exitFailed
		}
	} else {
		printReport(&printer{w: s.Out}, report)
	}
	return doctorExit(report.Worst)
}

// doctorExit is the exit code of a report.
func doctorExit(worst doctor.Severity) int {
	switch worst {
	case doctor.Fail:
		return exitFailed
	case doctor.Warn:
		return exitRefused
	default:
		return exitGood
	}
}

// doctorTLS says how --server is spoken to; nil: in plaintext, which only a
// loopback address or --server-insecure allows.
func doctorTLS(address string, plain, useTLS bool, ca string) (*tls.Config, error) {
	wanted := useTLS || ca != ""
	switch {
	case address == "" && (plain || wanted):
		return nil, errors.New("--server-insecure and --server-tls are for --server, which is not given")
	case plain && wanted:
		return nil, errors.New("--server-insecure and --server-tls exclude each other")
	case plain, address == "":
		return nil, nil //nolint:nilnil // nil is plaintext
	case !wanted && doctor.Loopback(address):
		return nil, nil //nolint:nilnil // nil is plaintext
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pool, err := readPool(ca)
		if err != nil {
			return nil, fmt.Errorf("--server-tls-ca: %w", err)
		}
		c.RootCAs = pool
	}
	return c, nil
}

func printReport(out *printer, r doctor.Report) {
	for _, f := range r.Findings {
		out.line("%-8s %-13s %s", f.Severity, f.Check, f.What)
		if f.Why != "" {
			out.line("%-22s why: %s", "", f.Why)
		}
		if f.Fix != "" {
			out.line("%-22s fix: %s", "", f.Fix)
		}
		for _, step := range f.Trace {
			mark := "ok"
			if !step.OK {
				mark = "NO"
			}
			out.line("%-22s  %s %-12s %s", "", mark, step.Name, step.Detail)
		}
	}
	out.line("")
	out.line("worst: %s", r.Worst)
}
