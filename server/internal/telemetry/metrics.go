// Package telemetry counts what the server does and answers the operator's
// HTTP requests: metrics, liveness, readiness. It never sees a credential.
package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/store"
)

// Metrics holds the server's metrics. Its methods are safe for concurrent use.
type Metrics struct {
	reg           prometheus.Registerer
	verdicts      []prometheus.Counter // by reason
	undecided     prometheus.Counter
	lookups       *prometheus.CounterVec
	lookupTokens  prometheus.Counter
	lookupSeconds prometheus.Histogram
}

// NewMetrics registers the metrics with a registry of the server's own.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	verdicts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_verdicts_total",
		Help: "Credentials decided, by verdict (good, refused) and reason (NONE for a good one).",
	}, []string{"verdict", "reason"})
	m := &Metrics{
		reg: reg,
		undecided: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sessiond_undecided_total",
			Help: "Credentials that could not be decided: the store was away, or the caller's deadline passed.",
		}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_store_lookups_total",
			Help: "Lookups sent to the store, by outcome (ok, error). One lookup is one SQL statement.",
		}, []string{"outcome"}),
		lookupTokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sessiond_store_lookup_tokens_total",
			Help: "Tokens asked for in lookups.",
		}),
		lookupSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_store_lookup_duration_seconds",
			Help:    "Time a lookup took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
	}
	reg.MustRegister(verdicts, m.undecided, m.lookups, m.lookupTokens, m.lookupSeconds)
	m.verdicts = append(m.verdicts, verdicts.WithLabelValues("good", authority.ReasonNone.String()))
	for _, r := range authority.Reasons() {
		m.verdicts = append(m.verdicts, verdicts.WithLabelValues("refused", r.String()))
	}
	m.lookups.WithLabelValues("ok")
	m.lookups.WithLabelValues("error")
	return m
}

// Verdict records one verdict.
func (m *Metrics) Verdict(r authority.Reason) { m.verdicts[r].Inc() }

// Undecided records that n credentials could not be decided.
func (m *Metrics) Undecided(n int) { m.undecided.Add(float64(n)) }

// ObserveStore returns the store with its lookups counted and timed.
func (m *Metrics) ObserveStore(s store.Store) store.Store {
	return &observedStore{Store: s, metrics: m}
}

type observedStore struct {
	store.Store
	metrics *Metrics
}

func (o *observedStore) Lookup(ctx context.Context, era store.Era, tokens []string) ([]store.Record, error) {
	start := time.Now()
	records, err := o.Store.Lookup(ctx, era, tokens)
	o.metrics.lookupSeconds.Observe(time.Since(start).Seconds())
	o.metrics.lookupTokens.Add(float64(len(tokens)))
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	o.metrics.lookups.WithLabelValues(outcome).Inc()
	return records, err
}
