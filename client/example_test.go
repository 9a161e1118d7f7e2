package client_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/client"
)

// Three ends of a validation: a session, a refusal, and no answer.
func ExampleClient_Validate() {
	sessions, err := client.New("localhost:8443") // loopback: plaintext is allowed
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sessions.Close()

	session, err := sessions.Validate(context.Background(), client.FromHeaders("", ""))
	switch {
	case err == nil:
		fmt.Println("hello,", session.User.Name)
	case errors.Is(err, client.ErrNoCredential), errors.Is(err, client.ErrInvalid):
		fmt.Println("sign in:", client.ReasonOf(err))
	default:
		fmt.Println("try again later:", err)
	}
	// Output: sign in: NO_CREDENTIAL
}

func ExampleFromContext() {
	ctx := client.NewContext(context.Background(), &client.Session{UserID: "user-1"}) // a guard does this
	if session, ok := client.FromContext(ctx); ok {
		fmt.Println(session.UserID)
	}
	// Output: user-1
}
