package interceptors_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sessiond/sessiond/client"
	"github.com/sessiond/sessiond/interceptors"
)

// A gRPC worker: health checks are public, deleting needs a recent sign-in, all
// else a session.
func ExampleNew() {
	sessions, err := client.New("localhost:8443")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sessions.Close()
	guard, err := interceptors.New(sessions,
		interceptors.Public("/grpc.health.v1.Health/*"),
		interceptors.RequireFresh("/content.v1.ContentService/DeletePost", 15*time.Minute),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer(guard.ServerOptions()...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	fmt.Println(guard.Check(server)) // the content service was forgotten
	// Output: interceptors: pattern "/content.v1.ContentService/DeletePost": the server has no service content.v1.ContentService
}

// A net/http worker.
func ExampleGuard_Handler() {
	sessions, err := client.New("localhost:8443")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sessions.Close()
	guard, err := interceptors.New(sessions, interceptors.Public("/healthz"))
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := guard.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "fine") }))
	for _, path := range []string{"/healthz", "/posts"} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(recorder.Code, " ", recorder.Body)
	}
	// Output:
	// 200 fine
	// 401 {"error":{"code":"UNAUTHENTICATED","reason":"NO_CREDENTIAL","message":"a session is required"}}
}
