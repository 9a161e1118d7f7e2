package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/client"
	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
)

// sentinelOf is the expected sentinel of every reason.
var sentinelOf = map[client.Reason]error{
	client.ReasonUnspecified:           client.ErrInvalid,
	client.ReasonNoCredential:          client.ErrNoCredential,
	client.ReasonMalformed:             client.ErrMalformed,
	client.ReasonBadSignature:          client.ErrMalformed,
	client.ReasonRetiredSecret:         client.ErrMalformed,
	client.ReasonUnsignedNotAllowed:    client.ErrMalformed,
	client.ReasonNotFound:              client.ErrInvalid,
	client.ReasonExpired:               client.ErrExpired,
	client.ReasonUserNotFound:          client.ErrInvalid,
	client.ReasonUserBanned:            client.ErrInvalid,
	client.ReasonUserDeleted:           client.ErrInvalid,
	client.ReasonLifetimeCap:           client.ErrExpired,
	client.ReasonIdleCap:               client.ErrExpired,
	client.ReasonRevoked:               client.ErrRevoked,
	client.ReasonStoredValueUnreadable: client.ErrInvalid,
	client.ReasonSessionDataRejected:   client.ErrInvalid,
}

func TestEveryReasonHasItsSentinel(t *testing.T) {
	sentinels := []error{client.ErrNoCredential, client.ErrInvalid, client.ErrMalformed, client.ErrExpired, client.ErrRevoked, client.ErrUnavailable}
	if len(sentinelOf) != len(sessiondv1.Reason_name) {
		t.Errorf("%d reasons here, %d in the contract", len(sentinelOf), len(sessiondv1.Reason_name))
	}
	for _, name := range sessiondv1.Reason_name {
		reason := client.Reason(strings.TrimPrefix(name, "REASON_"))
		want, ok := sentinelOf[reason]
		if !ok {
			t.Errorf("reason %s of the contract is not known here", reason)
			continue
		}
		err := fmt.Errorf("wrapped: %w", &client.RefusedError{Reason: reason})
		if got := client.ReasonOf(err); got != reason {
			t.Errorf("ReasonOf = %s, want %s", got, reason)
		}
		if got := client.OutcomeOf(err); got != client.OutcomeRefused {
			t.Errorf("%s: OutcomeOf = %s", reason, got)
		}
		for _, sentinel := range sentinels {
			// The parent matches too, but for no credential.
			matches := sentinel == want || sentinel == client.ErrInvalid && want != client.ErrNoCredential
			if errors.Is(err, sentinel) != matches {
				t.Errorf("%s: errors.Is(%v) = %t, want %t", reason, sentinel, !matches, matches)
			}
		}
	}
}

func TestUnavailableErrorHidesTheCausesCode(t *testing.T) {
	cause := status.Error(codes.Unauthenticated, "unknown worker")
	err := fmt.Errorf("handler: %w", &client.UnavailableError{Cause: cause})
	if got := status.Code(err); got != codes.Unavailable {
		t.Errorf("status of the error = %v, want Unavailable", got)
	}
	if !errors.Is(err, cause) || !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("%v lost its cause or its sentinel", err)
	}
	unavailable, ok := errors.AsType[*client.UnavailableError](err)
	if !ok || status.Code(unavailable.Cause) != codes.Unauthenticated {
		t.Errorf("the cause's own code is gone: %v", unavailable)
	}
	if client.ReasonOf(err) != "" || client.ReasonOf(context.Canceled) != "" || client.ReasonOf(nil) != "" {
		t.Error("ReasonOf made a refusal of something else")
	}
}

func TestCredentialPrintsRedacted(t *testing.T) {
	const value = "s3cr3t"
	for _, credential := range []client.Credential{
		client.FromHeaders("cookie="+value, "Bearer "+value), client.CookieValue(value), client.Token(value),
	} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "credential", credential, "pointer", &credential)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "credential", credential, "pointer", &credential)
		encoded, err := json.Marshal(credential) //nolint:staticcheck // that it has nothing to marshal is the point
		if err != nil {
			t.Fatal(err)
		}
		held := struct{ C client.Credential }{credential}
		for _, text := range []string{
			credential.String(), credential.GoString(), log.String(), string(encoded),
			fmt.Sprint(credential), fmt.Sprintf("%+v %#v %s %q %x %d", credential, credential, credential, credential, credential, credential),
			fmt.Sprintf("%v %+v %#v %v", &credential, held, held, []client.Credential{credential}),
		} {
			if strings.Contains(text, value) || strings.Contains(text, fmt.Sprintf("%x", value)) {
				t.Errorf("credential printed: %s", text)
			}
		}
	}
}
