package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// operatorTimeout bounds a call. A Revoke may take the staleness bound.
const operatorTimeout = time.Minute

// envOperatorSecret is serve's own variable.
const envOperatorSecret = "SESSIOND_OPERATOR_SECRET"

// operatorFlags say how to reach an authority as an operator.
type operatorFlags struct {
	address, secretFile, ca string
	insecure, useTLS        bool
}

func (o *operatorFlags) register(fs *flag.FlagSet, address string) {
	fs.StringVar(&o.address, "server", address, "HOST:PORT: the authority's address")
	fs.StringVar(&o.secretFile, "operator-secret-file", "", "FILE: holds the operators' secret (else "+envOperatorSecret+"; none is wanted on the authority's own machine where it has none)")
	fs.BoolVar(&o.insecure, "server-insecure", false, "speak plaintext to a --server that is not loopback")
	fs.StringVar(&o.ca, "server-tls-ca", "", "FILE: speak TLS to --server and trust the authorities in this PEM file")
	fs.BoolVar(&o.useTLS, "server-tls", false, "speak TLS to --server and trust the system's authorities")
}

// call runs f with the operators' service, which every call identifies itself to.
func (o *operatorFlags) call(ctx context.Context, env []string, f func(context.Context, sessiondv1.SessionAdminServiceClient) error) error {
	secret, err := o.secret(env)
	if err != nil {
		return err
	}
	transport, err := o.transport()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(o.address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return fmt.Errorf("--server %s: %w", o.address, err)
	}
	defer conn.Close() //nolint:errcheck // the call is over
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	if secret != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	}
	return f(ctx, sessiondv1.NewSessionAdminServiceClient(conn))
}

func (o *operatorFlags) secret(env []string) (string, error) {
	if o.secretFile != "" {
		content, err := os.ReadFile(o.secretFile)
		return strings.TrimRight(string(content), "\r\n"), err
	}
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, envOperatorSecret+"="); ok {
			return value, nil
		}
	}
	return "", nil
}

func (o *operatorFlags) transport() (credentials.TransportCredentials, error) {
	switch {
	case o.insecure && (o.useTLS || o.ca != ""):
		return nil, errors.New("--server-insecure and --server-tls exclude each other")
	case o.ca != "":
		pool, err := readPool(o.ca)
		if err != nil {
			return nil, fmt.Errorf("--server-tls-ca: %w", err)
		}
		return credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}), nil
	case o.useTLS:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), nil
	}
	host, _, err := net.SplitHostPort(o.address)
	if err != nil {
		return nil, fmt.Errorf("--server: %q is not host:port", o.address)
	}
	if ip := net.ParseIP(host); !o.insecure && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--server %s is not loopback and would be plaintext: set --server-tls or --server-tls-ca, or --server-insecure if something else encrypts", o.address)
	}
	return insecure.NewCredentials(), nil
}

// failed prints why an operator's call failed.
func failed(s Streams, what string, err error) int {
	if st, ok := status.FromError(err); ok {
		fail(s, "%s: %s (%s)", what, st.Message(), st.Code())
	} else {
		fail(s, "%s: %v", what, err)
	}
	return exitUndecided
}
