package interceptors

import (
	"fmt"
	"net/http"

	"github.com/sessiond/sessiond/client"
)

// Handler returns a handler that guards another. A request that does not get
// through is answered here, as JSON:
//
//	{"error":{"code":"UNAUTHENTICATED","reason":"EXPIRED","message":"the session has expired"}}
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := client.FromHeaders(joinCookies(r.Header["Cookie"]), r.Header.Get("Authorization"))
		need := g.policy.ofPath(r.URL.Path, r.URL.EscapedPath())
		ctx, err := g.authenticate(r.Context(), r.URL.Path, need, headers, false)
		if err != nil {
			answerTo(err).write(w)
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// write answers an HTTP request.
func (a answer) write(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	switch a.httpStatus {
	case http.StatusUnauthorized:
		// No scheme is registered for cookies; this is draft-broyer-http-cookie-auth's.
		header.Set("WWW-Authenticate", `Cookie realm="session"`)
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", fmt.Sprint(int(retryAfter.Seconds())))
	}
	w.WriteHeader(a.httpStatus)
	// A client that no longer reads is nobody's concern. The parts are constants.
	_, _ = fmt.Fprintf(w, `{"error":{"code":%q,"reason":%q,"message":%q}}`+"\n", a.codeName, a.reason, a.message)
}
