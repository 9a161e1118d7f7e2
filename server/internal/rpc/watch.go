package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/feed"
	"github.com/sessiond/sessiond/server/internal/hub"
)

// watchProtocol is the version of the Watch that this authority speaks.
const watchProtocol = 1

// maxClientName bounds what a client may call itself, in bytes.
const maxClientName = 128

// Watch implements sessiond.v1.SessionService. Events and grants go out in the
// order in which the hub queued them (W1).
func (s *Service) Watch(stream sessiondv1.SessionService_WatchServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if v := first.GetProtocol(); v != watchProtocol {
		return status.Errorf(codes.FailedPrecondition, "watch protocol %d, this authority speaks %d: upgrade the older of the two; until then the client asks for every session", v, watchProtocol)
	}
	if n := len(first.GetClient()); n > maxClientName {
		return status.Errorf(codes.InvalidArgument, "client name of %d bytes, at most %d", n, maxClientName)
	}
	watcher, err := s.replica.Watch(first.GetClient())
	if err != nil {
		return statusOf(err)
	}
	// Its leases count until they are over, though the stream ends (W3).
	defer watcher.Close()

	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.ending, func() { cancel(errEnding) })
	defer stop()
	// It ends when the handler returns, since that ends the stream.
	go func() { cancel(s.receive(stream, watcher, first)) }()
	for {
		message, err := watcher.Next(ctx)
		if err != nil {
			return watchEnd(ctx, stream)
		}
		if err := stream.Send(s.watchResponse(message)); err != nil {
			return err
		}
	}
}

// errEnding ends the Watches of a server that stops.
var errEnding = status.Error(codes.Unavailable, "the authority is stopping: open the Watch elsewhere")

// errClientLeft ends a Watch that the client has closed.
var errClientLeft = errors.New("the client closed its side")

// receive takes renewals and acknowledgements until the stream ends.
func (s *Service) receive(stream sessiondv1.SessionService_WatchServer, watcher *hub.Watcher, request *sessiondv1.WatchRequest) error {
	for {
		if n := request.GetAck(); n != 0 {
			if err := watcher.Ack(n); err != nil {
				return status.Error(codes.InvalidArgument, fmt.Sprintf("ack: %v", err))
			}
		}
		if n := request.GetRenew(); n != 0 {
			watcher.Renew(n, s.replica.Proof)
		}
		var err error
		if request, err = stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return errClientLeft
			}
			return err
		}
	}
}

// watchEnd is the status of a Watch whose context has ended.
func watchEnd(ctx context.Context, stream sessiondv1.SessionService_WatchServer) error {
	cause := context.Cause(ctx)
	switch _, isStatus := status.FromError(cause); {
	case errors.Is(cause, errClientLeft):
		return nil
	case stream.Context().Err() != nil:
		return status.FromContextError(stream.Context().Err()).Err()
	case isStatus:
		return cause
	default:
		return statusOf(cause)
	}
}

func (s *Service) watchResponse(m hub.Message) *sessiondv1.WatchResponse {
	out := &sessiondv1.WatchResponse{Number: m.Number}
	if m.Hello {
		out.Hello = &sessiondv1.WatchHello{Intake: s.intake}
	}
	if m.Grant != nil {
		out.Grant = &sessiondv1.Grant{Renew: m.Grant.Renew, Age: durationpb.New(m.Grant.Age)}
	}
	if len(m.Events) > 0 {
		out.Events = make([]*sessiondv1.Event, len(m.Events))
		for i := range m.Events {
			out.Events[i] = eventProto(&m.Events[i])
		}
	}
	return out
}

func eventProto(e *feed.Event) *sessiondv1.Event {
	switch e.Kind {
	case feed.KindKey:
		return &sessiondv1.Event{Scope: &sessiondv1.Event_SessionKey{SessionKey: e.Key[:]}}
	case feed.KindUser:
		return &sessiondv1.Event{Scope: &sessiondv1.Event_UserId{UserId: e.User}}
	default:
		return &sessiondv1.Event{}
	}
}

// GetRevision implements sessiond.v1.SessionService.
func (s *Service) GetRevision(ctx context.Context, _ *sessiondv1.GetRevisionRequest) (*sessiondv1.GetRevisionResponse, error) {
	if s.authority.Stateless() {
		return nil, statusOf(authority.ErrStateless)
	}
	revision, err := s.replica.Revision(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	return &sessiondv1.GetRevisionResponse{Revision: string(revision)}, nil
}
