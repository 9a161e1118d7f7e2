package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Admin returns the operator's handler: GET /metrics (Prometheus), /livez (the
// process runs), /readyz (it can decide now; 503 with the reason otherwise).
func Admin(g prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { reply(w, log, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			reply(w, log, http.StatusServiceUnavailable, err.Error())
			return
		}
		reply(w, log, http.StatusOK, "ok")
	})
	return mux
}

func reply(w http.ResponseWriter, log *slog.Logger, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	if _, err := fmt.Fprintln(w, text); err != nil {
		log.Debug("admin reply not written", "error", err)
	}
}
