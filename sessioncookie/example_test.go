package sessioncookie_test

import (
	"errors"
	"fmt"

	"github.com/sessiond/sessiond/sessioncookie"
)

func ExampleReader_FromHeaders() {
	// The issuer: baseURL "https://...", cookiePrefix "shop", version 1.7.25.
	naming := sessioncookie.Naming{Prefix: "shop", Secure: true}
	const secret = "only-an-example-of-a-secret-never-use-it"

	reader, err := sessioncookie.New(sessioncookie.Config{
		Names:   []string{naming.SessionToken()},
		Secrets: []string{secret},
		Version: sessioncookie.V1_7,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	good := naming.SessionToken() + "=" + sessioncookie.Encode(sessioncookie.Sign("token-of-alice", secret))
	reading := reader.FromHeaders("theme=dark; "+good, "")
	fmt.Println(reading.Name, reading.Token, reading.Err)

	forged := reader.FromHeaders(naming.SessionToken()+"=token-of-alice.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D", "")
	fmt.Println(errors.Is(forged.Err, sessioncookie.ErrBadSignature))
	// Output:
	// __Secure-shop.session_token token-of-alice <nil>
	// true
}

func ExampleInspect() {
	for _, c := range sessioncookie.Inspect(`theme=dark; better-auth.session_token="a.b"; preferences=1`, 10) {
		fmt.Printf("%s: %d bytes, quoted %t, dots %d\n", c.Name, c.ValueBytes, c.Quoted, c.Dots)
	}
	// Output:
	// theme: 4 bytes, quoted false, dots 0
	// better-auth.session_token: 5 bytes, quoted true, dots 1
	// prefe…: 1 bytes, quoted false, dots 0
}
