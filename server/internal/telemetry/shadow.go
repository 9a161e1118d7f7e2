package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/server/internal/issuer"
)

// Shadow counts what the shadow check does. Its methods are safe for concurrent use.
type Shadow struct {
	results *prometheus.CounterVec
	dropped prometheus.Counter
}

// NewShadow registers the shadow check's metrics. Call it once.
func (m *Metrics) NewShadow() *Shadow {
	s := &Shadow{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_shadow_total",
			Help: "Verdicts held against the issuer's, by result: agree; disagree, twice and unchanged (the log has the trace); unknown (one side gave no verdict, or an answer changed meanwhile).",
		}, []string{"result"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sessiond_shadow_dropped_total",
			Help: "Verdicts of the sample that were not compared: more came than shadow.per_minute allows, or the issuer is slow.",
		}),
	}
	m.reg.MustRegister(s.results, s.dropped)
	for _, o := range []issuer.Outcome{issuer.Unknown, issuer.Agree, issuer.Disagree} {
		s.results.WithLabelValues(o.String())
	}
	return s
}

// Compared records the outcome of one comparison.
func (s *Shadow) Compared(o issuer.Outcome) { s.results.WithLabelValues(o.String()).Inc() }

// Dropped records a verdict that was not compared.
func (s *Shadow) Dropped() { s.dropped.Inc() }
