package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/internal/clock"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/lifecycle"
	"github.com/sessiond/sessiond/server/internal/replica"
	"github.com/sessiond/sessiond/server/internal/rpc"
	"github.com/sessiond/sessiond/server/internal/shadow"
	"github.com/sessiond/sessiond/server/internal/store"
	"github.com/sessiond/sessiond/server/internal/telemetry"
)

// Clients may ping this often, with or without a call under way. The client's
// preset is three times as long.
const keepaliveMinTime = 10 * time.Second

// How the store is read: few statements at a time, so that many misses share one.
const (
	maxReads    = 4
	maxLookup   = 256
	readTimeout = 2 * time.Second
)

// watchQueue is the most events that wait for one watcher; a slower one is told to
// forget everything.
const watchQueue = 1024

// readinessInterval is how often the store is asked whether it is there, for the
// health service.
const readinessInterval = 2 * time.Second

// Server is a configured sessiond.
type Server struct {
	cfg       Config
	log       *slog.Logger
	store     store.Store
	source    feed.Source // nil: none
	replica   *replica.Replica
	authority *authority.Authority
	sessions  *rpc.Service
	writer    store.Writer
	shadow    *shadow.Checker // nil: nothing is compared
	registry  *prometheus.Registry
	health    *health.Server
	grpc      *grpc.Server
	listener  net.Listener
	admin     net.Listener // nil: none
}

// New opens the store, checks the schema, and listens. It serves nothing yet.
// An error names what is wrong and what to do, and leaves nothing open.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *Server, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	transport, err := transportCredentials(cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, registry: prometheus.NewRegistry(), health: health.NewServer()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeAll())
		}
	}()
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := telemetry.NewMetrics(s.registry)

	opened, err := OpenStore(ctx, cfg.Store)
	if err != nil {
		return nil, err
	}
	s.store = metrics.ObserveStore(opened)
	if cfg.Through != nil {
		s.store = cfg.Through(s.store)
	}
	if s.writer, err = openWriter(ctx, cfg.Store); err != nil {
		return nil, err
	}
	if s.source, err = s.openFeed(ctx); err != nil {
		return nil, err
	}
	s.replica = replica.New(replica.Config{
		Bound:        clock.Bound(cfg.Authority.StalenessBound),
		Store:        s.store,
		Source:       s.source,
		PollInterval: cfg.Feed.PollInterval,
		CacheBytes:   cfg.CacheBytes,
		MaxBatch:     maxLookup,
		MaxReads:     maxReads,
		ReadTimeout:  readTimeout,
		QueueLimit:   watchQueue,
		Log:          log,
	})
	metrics.ObserveReplica(s.replica)
	if s.authority, err = authority.New(cfg.Authority, s.replica); err != nil {
		return nil, err
	}

	s.grpc = grpc.NewServer(
		grpc.Creds(transport),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 10 * time.Second}),
	)
	traces := rpc.NewTraces(s.store.Describe())
	s.sessions = rpc.New(s.authority, s.replica, metrics, traces)
	if cfg.Shadow.IssuerURL != "" {
		if s.shadow, err = shadow.New(cfg.Shadow, s.authority, s.store, metrics.NewShadow(), log); err != nil {
			return nil, err
		}
		s.sessions.Observe(s.shadow)
	}
	sessiondv1.RegisterSessionServiceServer(s.grpc, s.sessions)
	operators := rpc.NewAdmin(s.authority, s.replica, lifecycle.New(s.authority, s.store, s.writer, cfg.Cookies), s.store, traces, cfg.OperatorSecret)
	if cfg.Now != nil {
		s.sessions.SetClock(cfg.Now)
		operators.SetClock(cfg.Now)
	}
	sessiondv1.RegisterSessionAdminServiceServer(s.grpc, operators)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)

	if s.listener, err = listen("listen", cfg.Listen); err != nil {
		return nil, err
	}
	if cfg.AdminListen != "" {
		if s.admin, err = listen("admin.listen", cfg.AdminListen); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// openFeed opens the change feed. Where it may be absent and is, that is said.
func (s *Server) openFeed(ctx context.Context) (feed.Source, error) {
	switch {
	case s.cfg.Store.Driver == DriverNone:
		s.log.Warn("the issuer is stateless: a session is good as long as its cookie says so, and nobody can revoke it before")
		return nil, nil
	case s.cfg.Feed.Mode == FeedOff:
		return nil, nil
	}
	source, err := openSource(ctx, s.cfg.Store, s.writer, s.cfg.Authority.StalenessBound)
	if errors.Is(err, feed.ErrNotInstalled) && s.cfg.Feed.Mode != FeedRequired {
		s.log.Warn("no change feed: cached sessions age out instead, sessions cannot be revoked here, and the store is read more often; the reason says what is wanted", "reason", err)
		return nil, nil
	}
	return source, err
}

func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w: free the port or choose another", setting, address, err)
	}
	return l, nil
}

// Addr is the gRPC listener's address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// AdminAddr is the operator's listener's address, nil if there is none.
func (s *Server) AdminAddr() net.Addr {
	if s.admin == nil {
		return nil
	}
	return s.admin.Addr()
}

// Store describes where sessions are read from.
func (s *Server) Store() store.Description { return s.store.Describe() }

// Settle returns when this authority and the clients that watch it know of everything
// that was committed before. It is for tests with one authority.
func (s *Server) Settle(ctx context.Context) error { return s.replica.Settle(ctx) }

// Run serves until the context ends or a listener fails, then drains: it stops
// accepting, lets calls under way finish within DrainTimeout, and closes the
// store. It returns nil after an orderly stop. Call it once.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 3)
	var running sync.WaitGroup

	running.Go(func() {
		if err := s.grpc.Serve(s.listener); err != nil {
			failed <- fmt.Errorf("grpc listener: %w", err)
		}
	})
	admin := &http.Server{
		Handler:           telemetry.Admin(s.registry, s.store.Ready, s.log),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if s.admin != nil {
		running.Go(func() {
			if err := admin.Serve(s.admin); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("admin listener: %w", err)
			}
		})
	}
	running.Go(func() { s.watchReadiness(ctx) })
	if s.shadow != nil {
		running.Go(func() { s.shadow.Run(ctx) })
	}
	running.Go(func() {
		if err := s.replica.Run(ctx); err != nil {
			failed <- err
		}
	})

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	err = errors.Join(err, s.drain(admin)) //nolint:contextcheck // draining begins when the context has ended
	running.Wait()
	return errors.Join(err, s.closeStore())
}

// watchReadiness keeps the health service's answer true.
func (s *Server) watchReadiness(ctx context.Context) {
	ticker := time.NewTicker(readinessInterval)
	defer ticker.Stop()
	ready := true
	for {
		checkCtx, cancel := context.WithTimeout(ctx, readinessInterval)
		err := s.store.Ready(checkCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		status := healthv1.HealthCheckResponse_SERVING
		if err != nil {
			status = healthv1.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus("", status)
		s.health.SetServingStatus(sessiondv1.SessionService_ServiceDesc.ServiceName, status)
		switch {
		case err != nil && ready:
			s.log.Warn("store unavailable", "error", err)
		case err == nil && !ready:
			s.log.Info("store available again")
		}
		ready = err == nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) drain(admin *http.Server) error {
	s.health.Shutdown()
	s.sessions.EndWatches()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	var err error
	select {
	case <-stopped:
	case <-ctx.Done():
		s.log.Warn("calls cut off: they took longer than the drain timeout", "drain_timeout", s.cfg.DrainTimeout)
		s.grpc.Stop()
		<-stopped
	}
	if shutdownErr := admin.Shutdown(ctx); shutdownErr != nil {
		err = admin.Close()
	}
	return err
}

// closeStore ends the lookups on their way, then the connections.
func (s *Server) closeStore() error {
	var errs []error
	if s.replica != nil {
		s.replica.Close()
	}
	if s.source != nil {
		errs = append(errs, s.source.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// closeAll undoes a New that failed half-way.
func (s *Server) closeAll() error {
	var errs []error
	for _, l := range []net.Listener{s.listener, s.admin} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if s.source != nil {
		errs = append(errs, s.source.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

func transportCredentials(files TLSFiles) (credentials.TransportCredentials, error) {
	if files.Cert == "" {
		return insecure.NewCredentials(), nil
	}
	// Read once here so that a bad file stops the start, then again at each
	// handshake's request: certificates are renewed under a running server.
	if _, err := tls.LoadX509KeyPair(files.Cert, files.Key); err != nil {
		return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			if err != nil {
				return nil, fmt.Errorf("tls.cert_file, tls.key_file: %w", err)
			}
			return &cert, nil
		},
	}
	if files.ClientCA != "" {
		pem, err := os.ReadFile(files.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca_file: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.client_ca_file: %s holds no PEM certificate", files.ClientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(config), nil
}
