package interceptors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
)

// TestAnswers holds the table over every sentinel, wrapped as they arrive.
func TestAnswers(t *testing.T) {
	const secret = "driver text"
	for _, c := range []struct {
		err        error
		code       codes.Code
		httpStatus int
		reason     string
	}{
		{client.ErrNoCredential, codes.Unauthenticated, 401, "NO_CREDENTIAL"},
		{client.ErrMalformed, codes.Unauthenticated, 401, "MALFORMED"},
		{client.ErrExpired, codes.Unauthenticated, 401, "EXPIRED"},
		{client.ErrRevoked, codes.Unauthenticated, 401, "REVOKED"},
		{client.ErrInvalid, codes.Unauthenticated, 401, "INVALID"},
		{&client.RefusedError{Reason: client.ReasonBadSignature}, codes.Unauthenticated, 401, "MALFORMED"},
		{&client.RefusedError{Reason: client.ReasonUserBanned}, codes.Unauthenticated, 401, "INVALID"},
		{&client.RefusedError{}, codes.Unauthenticated, 401, "INVALID"},
		{errNotFresh, codes.PermissionDenied, 403, "NOT_FRESH"},
		{errRoleRequired, codes.PermissionDenied, 403, "ROLE_REQUIRED"},
		{client.ErrUnavailable, codes.Unavailable, 503, "AUTHORITY_UNAVAILABLE"},
		{&client.UnavailableError{Cause: status.Error(codes.Unauthenticated, secret)}, codes.Unavailable, 503, "AUTHORITY_UNAVAILABLE"},
		{&client.UnavailableError{Cause: context.DeadlineExceeded}, codes.Unavailable, 503, "AUTHORITY_UNAVAILABLE"},
		{&client.UnavailableError{Cause: client.ErrInvalid}, codes.Unavailable, 503, "AUTHORITY_UNAVAILABLE"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, 504, ""},
		{context.Canceled, codes.Canceled, 499, ""},
		{status.Error(codes.Unauthenticated, secret), codes.Internal, 500, ""},
		{errors.New("a bug"), codes.Internal, 500, ""},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			got := answerTo(fmt.Errorf("%s: %w", secret, c.err))

			s := got.status()
			var reason, domain string
			var retry bool
			for _, detail := range s.Details() {
				switch d := detail.(type) {
				case *errdetails.ErrorInfo:
					reason, domain = d.GetReason(), d.GetDomain()
				case *errdetails.RetryInfo:
					retry = d.GetRetryDelay().AsDuration() > 0
				}
			}
			if s.Code() != c.code || reason != c.reason || (domain == ErrorDomain) != (c.reason != "") {
				t.Errorf("status %v, reason %q of %q, want %v, %q", s.Code(), reason, domain, c.code, c.reason)
			}
			if retry != (c.code == codes.Unavailable) {
				t.Errorf("RetryInfo: %t", retry)
			}

			recorder := httptest.NewRecorder()
			got.write(recorder)
			var body struct {
				Error struct{ Code, Reason, Message string }
			}
			if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
				t.Fatalf("body %q: %v", recorder.Body, err)
			}
			if recorder.Code != c.httpStatus || body.Error.Reason != c.reason || body.Error.Message != s.Message() {
				t.Errorf("HTTP %d, %+v", recorder.Code, body)
			}
			if number, ok := code.Code_value[body.Error.Code]; !ok || codes.Code(number) != c.code {
				t.Errorf("code %q is not that of %v", body.Error.Code, c.code)
			}
			if strings.Contains(s.Message()+recorder.Body.String(), secret) {
				t.Error("the cause is told")
			}
			header := recorder.Header()
			if (header.Get("WWW-Authenticate") != "") != (recorder.Code == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate: %q", header.Get("WWW-Authenticate"))
			}
			if (header.Get("Retry-After") == "1") != (recorder.Code == http.StatusServiceUnavailable) {
				t.Errorf("Retry-After: %q", header.Get("Retry-After"))
			}
			if header.Get("Cache-Control") != "no-store" || header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", header)
			}
		})
	}
}
