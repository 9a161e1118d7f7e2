package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/server/internal/replica"
)

// ObserveReplica publishes what a replica does, read when the metrics are.
func (m *Metrics) ObserveReplica(r *replica.Replica) { m.reg.MustRegister(newReplicaCollector(r)) }

// replicaCollector reads a replica's status once for all metrics made of it.
type replicaCollector struct {
	replica *replica.Replica
	metrics []replicaMetric
}

type replicaMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*replica.Status) float64
}

func newReplicaCollector(r *replica.Replica) *replicaCollector {
	c := &replicaCollector{replica: r}
	add := func(name, help string, kind prometheus.ValueType, value func(*replica.Status) float64) {
		c.metrics = append(c.metrics, replicaMetric{desc: prometheus.NewDesc(name, help, nil, nil), kind: kind, value: value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add("sessiond_feed_proof_age_seconds", "Age of the proof that the cache is current; -1 while there is none.", gauge,
		func(s *replica.Status) float64 {
			if s.ProofAge < 0 {
				return -1
			}
			return s.ProofAge.Seconds()
		})
	add("sessiond_feed_healthy", "1 while nothing keeps the cache from answering, else 0.", gauge, func(s *replica.Status) float64 {
		if s.Problem == "" {
			return 1
		}
		return 0
	})
	add("sessiond_feed_beats_total", "Beats sent to the store.", counter, func(s *replica.Status) float64 { return float64(s.Beats) })
	add("sessiond_feed_polls_total", "Polls sent to the store.", counter, func(s *replica.Status) float64 { return float64(s.Polls) })
	add("sessiond_feed_events_total", "Events read from the feed.", counter, func(s *replica.Status) float64 { return float64(s.Events) })
	add("sessiond_feed_failures_total", "Reads of the feed and the registry that failed.", counter, func(s *replica.Status) float64 { return float64(s.Failures) })
	add("sessiond_feed_forget_alls_total", "Times that everything was forgotten.", counter, func(s *replica.Status) float64 { return float64(s.ForgetAlls) })
	add("sessiond_watchers", "Watches that are open.", gauge, func(s *replica.Status) float64 { return float64(s.Watchers) })
	add("sessiond_cache_entries", "Sessions in memory.", gauge, func(s *replica.Status) float64 { return float64(s.Cache.Entries) })
	add("sessiond_cache_bytes", "Memory of the sessions in memory.", gauge, func(s *replica.Status) float64 { return float64(s.Cache.Bytes) })
	add("sessiond_cache_hits_total", "Questions answered from memory.", counter, func(s *replica.Status) float64 { return float64(s.Cache.Hits) })
	add("sessiond_cache_misses_total", "Questions that needed the store.", counter, func(s *replica.Status) float64 { return float64(s.Cache.Misses) })
	add("sessiond_cache_joined_total", "Misses that shared the lookup of another.", counter, func(s *replica.Status) float64 { return float64(s.Cache.Joined) })
	add("sessiond_cache_fenced_total", "Answers that an event passed on their way.", counter, func(s *replica.Status) float64 { return float64(s.Cache.Fenced) })
	add("sessiond_cache_evictions_total", "Sessions dropped for want of room.", counter, func(s *replica.Status) float64 { return float64(s.Cache.Evictions) })
	return c
}

// Describe implements [prometheus.Collector].
func (c *replicaCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *replicaCollector) Collect(out chan<- prometheus.Metric) {
	status := c.replica.Status()
	for _, m := range c.metrics {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&status))
	}
}
