package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sessiond/sessiond/examples/workers/workersv1"
)

// door is one way into a worker.
type door struct {
	name   string
	worker *process
	// method is what the worker's log calls it.
	method string
	// behind is the worker asked in turn, with the same credential; nil: none.
	behind *door
	// ask makes the call with a Cookie header (empty: none) and returns who the
	// worker, and those behind it, say the user is.
	ask func(ctx context.Context, cookie string) ([]user, error)
}

// answer is what came of a call, for gRPC and HTTP alike.
type answer struct {
	Code   codes.Code
	Reason string // told to the caller
	Logged string // told to the worker only
	Users  []user // who the worker, and those behind it, say the user is
}

// refusal is the error of an HTTP door, in gRPC's terms.
type refusal struct {
	code   codes.Code
	reason string
}

func (r *refusal) Error() string { return r.code.String() + " " + r.reason }

// put asks at the door and finds the worker's log line about it.
func (d *door) put(t *testing.T, cookie string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before := d.worker.journal.count()
	var beforeBehind int
	if d.behind != nil {
		beforeBehind = d.behind.worker.journal.count()
	}
	users, err := d.ask(ctx, cookie)
	a := answer{Users: users}
	var web *refusal
	switch {
	case errors.As(err, &web):
		a.Code, a.Reason = web.code, web.reason
	default:
		s, ok := status.FromError(err)
		if !ok {
			t.Fatalf("%s: %v", d.name, err)
		}
		a.Code = s.Code()
		for _, detail := range s.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				a.Reason = info.GetReason()
			}
		}
	}
	line := d.logged(t, before)
	a.Logged = field(line, "reason")
	if d.behind != nil && field(line, "outcome") == "accepted" {
		d.behind.logged(t, beforeBehind) // else the next call could take this line for its own
	}
	return a
}

// logged returns the worker's first log line about this door after the first n lines.
func (d *door) logged(t *testing.T, n int) string {
	t.Helper()
	return d.worker.await(t, n, "what it decided about "+d.method, func(line string) bool {
		return field(line, "method") == d.method
	})
}

// withCookie is ctx for a call that carries a Cookie header as metadata.
func withCookie(ctx context.Context, cookie string) context.Context {
	if cookie == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "cookie", cookie)
}

func users(viewers ...*workersv1.Viewer) []user {
	var us []user
	for _, v := range viewers {
		us = append(us, user{ID: v.GetUserId(), Email: v.GetEmail()})
	}
	return us
}

// dial connects to a worker.
func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func contentDoors(t *testing.T, p *process) []*door {
	t.Helper()
	content := workersv1.NewContentServiceClient(dial(t, p.address(t)))
	return []*door{{
		name: "content, unary", worker: p, method: workersv1.ContentService_GetArticle_FullMethodName,
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			article, err := content.GetArticle(withCookie(ctx, cookie), &workersv1.GetArticleRequest{Id: "1"})
			if err != nil {
				return nil, err
			}
			return users(article.GetViewer()), nil
		},
	}, {
		name: "content, stream", worker: p, method: workersv1.ContentService_WatchArticles_FullMethodName,
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			ctx, leave := context.WithCancel(ctx)
			defer leave()
			stream, err := content.WatchArticles(withCookie(ctx, cookie), &workersv1.WatchArticlesRequest{})
			if err != nil {
				return nil, err
			}
			article, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			return users(article.GetViewer()), nil
		},
	}}
}

// identityDoors returns the door to WhoAmI and the one that wants a recent sign-in.
func identityDoors(t *testing.T, p *process) (whoAmI, closeAccount *door) {
	t.Helper()
	identity := workersv1.NewIdentityServiceClient(dial(t, p.address(t)))
	whoAmI = &door{
		name: "identity", worker: p, method: workersv1.IdentityService_WhoAmI_FullMethodName,
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			who, err := identity.WhoAmI(withCookie(ctx, cookie), &workersv1.WhoAmIRequest{})
			if err != nil {
				return nil, err
			}
			return users(who.GetViewer()), nil
		},
	}
	closeAccount = &door{
		name: "identity, recent sign-in", worker: p, method: workersv1.IdentityService_CloseAccount_FullMethodName,
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			closed, err := identity.CloseAccount(withCookie(ctx, cookie), &workersv1.CloseAccountRequest{})
			if err != nil {
				return nil, err
			}
			return users(closed.GetViewer()), nil
		},
	}
	return whoAmI, closeAccount
}

func organizationDoor(t *testing.T, p *process, identity *door) *door {
	t.Helper()
	organization := workersv1.NewOrganizationServiceClient(dial(t, p.address(t)))
	return &door{
		name: "organization, then identity", worker: p, method: workersv1.OrganizationService_GetOrganization_FullMethodName, behind: identity,
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			org, err := organization.GetOrganization(withCookie(ctx, cookie), &workersv1.GetOrganizationRequest{})
			if err != nil {
				return nil, err
			}
			return users(org.GetViewer(), org.GetIdentity()), nil
		},
	}
}

// httpCodes are the gRPC codes the guard's HTTP statuses stand for.
var httpCodes = map[int]codes.Code{
	http.StatusUnauthorized:       codes.Unauthenticated,
	http.StatusForbidden:          codes.PermissionDenied,
	http.StatusServiceUnavailable: codes.Unavailable,
	http.StatusGatewayTimeout:     codes.DeadlineExceeded,
}

func webDoor(t *testing.T, p *process) *door {
	t.Helper()
	target := "http://" + p.address(t) + "/me"
	browser := &http.Client{Timeout: patience}
	t.Cleanup(browser.CloseIdleConnections)
	return &door{
		name: "web", worker: p, method: "/me",
		ask: func(ctx context.Context, cookie string) ([]user, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
			if err != nil {
				return nil, err
			}
			if cookie != "" {
				req.Header.Set("Cookie", cookie)
			}
			resp, err := browser.Do(req)
			if err != nil {
				return nil, err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, err
			}
			if resp.StatusCode != http.StatusOK {
				var body struct{ Error struct{ Reason string } }
				if err := json.Unmarshal(text, &body); err != nil {
					return nil, err
				}
				code, known := httpCodes[resp.StatusCode]
				if !known || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
					return nil, errors.New("unexpected answer: " + resp.Status)
				}
				return nil, &refusal{code: code, reason: body.Error.Reason}
			}
			var who struct {
				UserID string `json:"user_id"`
				Email  string `json:"email"`
			}
			if err := json.Unmarshal(text, &who); err != nil {
				return nil, err
			}
			return []user{{ID: who.UserID, Email: who.Email}}, nil
		},
	}
}
