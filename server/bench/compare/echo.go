package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	sessiondv1 "github.com/sessiond/sessiond/gen/sessiond/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// echoArgument makes this program the echo, in a process of its own as the
// authority is.
const echoArgument = "-serve-echo"

// echoService answers every call with the same message.
type echoService struct {
	sessiondv1.UnimplementedSessionServiceServer
	response *sessiondv1.ValidateResponse
}

func (e *echoService) Validate(context.Context, *sessiondv1.ValidateRequest) (*sessiondv1.ValidateResponse, error) {
	return e.response, nil
}

// serveEcho runs a bare grpc-go server at an address, that answers with a message.
func serveEcho(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("needs an address and a message")
	}
	wire, err := base64.StdEncoding.DecodeString(args[1])
	if err != nil {
		return err
	}
	response := &sessiondv1.ValidateResponse{}
	if err := proto.Unmarshal(wire, response); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	sessiondv1.RegisterSessionServiceServer(srv, &echoService{response: response})
	defer context.AfterFunc(ctx, srv.Stop)()
	return srv.Serve(listener)
}

// startEcho runs an echo that answers with the authority's own answer to request,
// so that all messages are of equal size. The caller stops it.
func (l *lab) startEcho(ctx context.Context, from *stub, request *sessiondv1.ValidateRequest) (*process, string, error) {
	response, err := from.Validate(ctx, request)
	if err != nil {
		return nil, "", err
	}
	wire, err := proto.Marshal(response)
	if err != nil {
		return nil, "", err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, "", fmt.Errorf("find this program: %w", err)
	}
	address, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, echoArgument, address, base64.StdEncoding.EncodeToString(wire))
	cmd.Env = environment()
	p, err := launch("echo", cmd)
	if err != nil {
		return nil, "", err
	}
	err = p.await(ctx, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return nil, "", errors.Join(err, p.end(syscall.SIGTERM))
	}
	return p, address, nil
}
