package doctor_test

import (
	"testing"
	"time"

	"github.com/sessiond/sessiond/server"
	"github.com/sessiond/sessiond/server/internal/authority"
	"github.com/sessiond/sessiond/server/internal/doctor"
	"github.com/sessiond/sessiond/server/internal/redistest"
	"github.com/sessiond/sessiond/sessioncookie"
)

// TestSecondaryAlone: sessions are in Redis and nowhere else; every check looks there,
// or says that there is nothing to look at.
func TestSecondaryAlone(t *testing.T) {
	const prefix = "better-auth:"
	redis := redistest.Start(t)
	issuer := redistest.NewIssuer(t, redis, prefix)
	token, _ := issuer.SignIn("u1")
	d := &deployment{t: t, token: token}
	d.Server = server.Config{
		Listen: "127.0.0.1:0", DrainTimeout: time.Second, CacheBytes: 1 << 20,
		Store: server.StoreConfig{Driver: server.DriverSQLite, Secondary: &server.SecondaryConfig{URL: redis.URL(), Prefix: prefix, ExpiresIn: time.Hour}},
		Feed:  server.FeedConfig{Mode: server.FeedAuto},
		Authority: authority.Config{
			Cookies:      sessioncookie.Config{Names: []string{name}, Secrets: []string{secret}},
			MaxBatchSize: 8, StalenessBound: bound,
		},
	}
	d.Cookie = cookie(name, token, secret)
	d.IssuerURL = d.issuer()

	r := d.run()
	want(t, r, "feed", doctor.Note, "the first authority that starts makes it")
	for check, text := range map[string]string{
		"schema": "sessions in keys better-auth:TOKEN", "index": "found by its key", "secondary": "keys better-auth:TOKEN",
		"parity": "of user u1", "clock": "clock is", "pooler": "nothing is between",
	} {
		want(t, r, check, doctor.OK, text)
	}
	want(t, r, "tokens", doctor.Warn, "the shortest of 1 stored tokens has 26 characters") // the test's

	d.Address = d.serve(nil)
	for range 100 { // until it has registered
		if r = d.run(); r.Worst != doctor.Fail {
			break
		}
	}
	want(t, r, "feed", doctor.OK, "replicas registered: 1, and all beat")

	issuer.Do("CONFIG", "SET", "maxmemory", "100mb")
	issuer.Do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	d.Server.Store.Secondary.Prefix = "other:"
	d.Address = ""
	r = d.run()
	want(t, r, "secondary", doctor.Warn, "no session was found under keys other:TOKEN")
	want(t, r, "secondary", doctor.Warn, "(volatile-lru)")
	want(t, r, "tokens", doctor.Skipped, "no session is stored")

	redis.Stop(t)
	d.IssuerURL = ""
	r = d.run()
	want(t, r, "secondary", doctor.Fail, "secondary.url")
	want(t, r, "schema", doctor.Fail, "secondary.url")
}
