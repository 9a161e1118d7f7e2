package history

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/sessioncookie"

	"github.com/sessiond/sessiond/server/history/proxy"
)

// postgresStore keeps sessions in rows of a primary with a standby.
type postgresStore struct {
	*issuer
	cluster *cluster
	run     *run
	link    int // of each authority to the primary
}

func (p *postgresStore) start(ctx context.Context, r *run) (err error) {
	p.run = r
	if p.cluster, err = newCluster(ctx); err != nil {
		return err
	}
	if err := p.cluster.execute(ctx, p.cluster.primary, database, schema); err != nil {
		return err
	}
	if err := p.connect(ctx, p.cluster.dsn(p.cluster.primary.address, database)); err != nil {
		return err
	}
	return p.install(ctx)
}

// install installs the feed, or what is missing of it, as an operator would.
func (p *postgresStore) install(ctx context.Context) error {
	return p.run.insistFor(ctx, readyTimeout, func() error {
		cmd := exec.CommandContext(ctx, p.run.Sessiond, "feed", "install", "--yes", "--store-driver=postgres", "--staleness-bound="+p.run.Bound.String())
		cmd.Env = []string{"SESSIOND_STORE_DSN=" + p.cluster.dsn(p.cluster.primary.address, database)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("sessiond feed install: %w\n%s", err, text)
		}
		return nil
	})
}

func (p *postgresStore) remove() error {
	p.close()
	if p.cluster == nil {
		return nil
	}
	return p.cluster.remove()
}

func (p *postgresStore) addresses() []string { return []string{p.cluster.primary.address} }

func (p *postgresStore) settings(links []string, name string) (flags, env []string) {
	return []string{"--store-driver=postgres"}, []string{"SESSIOND_STORE_DSN=" + p.cluster.dsn(links[p.link], database) + "&application_name=" + name}
}

func (p *postgresStore) updateUser(ctx context.Context, g *group, version string) error {
	return p.exec(ctx, `UPDATE "user" SET name = $2 WHERE id = $1`, g.user, version)
}

func (p *postgresStore) updateSessions(ctx context.Context, g *group, version string) error {
	return p.exec(ctx, `UPDATE session SET "userAgent" = $2 WHERE "userId" = $1`, g.user, version)
}

func (p *postgresStore) endings() []ending {
	return slices.Concat(p.sqlEndings(), revocations(func(ctx context.Context, _ *run, targets []*session) error {
		return p.exec(ctx, deleteSessions, idsOf(targets))
	}))
}

const deleteSessions = `DELETE FROM session WHERE id = ANY ($1)`

// sqlEndings are the issuer's ways. The first is also the way to end again what the
// store has brought back.
func (p *postgresStore) sqlEndings() []ending {
	return []ending{
		{
			name: "sql delete", size: 2, weight: 6, targets: first,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.exec(ctx, deleteSessions, idsOf(targets))
			},
		},
		{
			name: "sql delete, asynchronous commit", size: 1, weight: 6, brink: true, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.transaction(ctx, "SET LOCAL synchronous_commit = off", 0, deleteSessions, idsOf(targets))
			},
		},
		{
			name: "sql delete, late commit", size: 2, weight: 3, targets: first,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.transaction(ctx, "", r.late(), deleteSessions, idsOf(targets))
			},
		},
		{
			name: "sql delete after a savepoint", size: 1, weight: 2, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.transaction(ctx, "SAVEPOINT before", 0, deleteSessions, idsOf(targets))
			},
		},
		{
			name: "sql delete of many", size: 40, weight: 1, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.exec(ctx, deleteSessions, idsOf(targets))
			},
		},
		{
			name: "sql expiry", size: 1, weight: 3, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.exec(ctx, `UPDATE session SET "expiresAt" = '2001-01-01' WHERE id = ANY ($1)`, idsOf(targets))
			},
		},
		{
			name: "sql other token", size: 1, weight: 2, targets: all,
			do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
				return p.exec(ctx, `UPDATE session SET token = $2 WHERE id = $1`, targets[0].id, sessioncookie.NewToken())
			},
		},
		{
			name: "sql ban", size: 2, weight: 3, targets: all,
			do: func(ctx context.Context, r *run, g *group, _ []*session) error {
				return p.exec(ctx, `UPDATE "user" SET banned = true WHERE id = $1`, g.user)
			},
		},
		{
			name: "sql user deleted", size: 2, weight: 3, targets: all,
			do: func(ctx context.Context, r *run, g *group, _ []*session) error {
				return p.exec(ctx, `DELETE FROM "user" WHERE id = $1`, g.user)
			},
		},
	}
}

// crowd is rare: above the limit from which the outbox says "forget all".
func (p *postgresStore) crowd() ending {
	return ending{
		name: "sql delete of a crowd", size: 1200, targets: all,
		do: func(ctx context.Context, r *run, _ *group, targets []*session) error {
			return p.exec(ctx, deleteSessions, idsOf(targets))
		},
	}
}

func (p *postgresStore) faults() []fault {
	return []fault{
		{"feed-drop", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			a := pick(i, i.authorities)
			return a.name, i.insist(ctx, func() error {
				return p.exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1`, a.name)
			})
		}},
		{"store-restart", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			return "", p.cluster.restart(context.WithoutCancel(ctx), syscall.SIGINT)
		}},
		{"store-crash", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			ctx = context.WithoutCancel(ctx)
			return i.losing(ctx, func() error {
				i.reachBrink()
				// Long enough for a commit and for somebody to read it, too short for it to
				// be saved.
				if err := pause(ctx, 3*time.Millisecond+time.Duration(i.chance.Int64N(int64(12*time.Millisecond)))); err != nil {
					return err
				}
				return p.cluster.restart(ctx, syscall.SIGQUIT)
			})
		}},
		{"failover", storeLane, p.failover},
		{"trigger-drop", storeLane, func(ctx context.Context, i *injector, d time.Duration) (string, error) {
			name, table, err := p.someTrigger(ctx, i)
			if err != nil {
				return "", err
			}
			return name, while(ctx, d/2, func() error {
				return i.insist(ctx, func() error { return p.exec(ctx, "DROP TRIGGER IF EXISTS "+name+" ON "+table) })
			}, func() error { return p.install(context.WithoutCancel(ctx)) })
		}},
		{"trigger-flap", storeLane, func(ctx context.Context, i *injector, _ time.Duration) (string, error) {
			// Off and on again between two beats, with a change in between.
			name, table, err := p.someTrigger(ctx, i)
			if err != nil {
				return "", err
			}
			return name, i.insist(context.WithoutCancel(ctx), func() error {
				if err := p.exec(context.WithoutCancel(ctx), "ALTER TABLE "+table+" DISABLE TRIGGER "+name); err != nil {
					return err
				}
				_ = pause(ctx, i.Bound/50) // an early end is mended all the same
				return p.exec(context.WithoutCancel(ctx), "ALTER TABLE "+table+" ENABLE ALWAYS TRIGGER "+name)
			})
		}},
	}
}

// someTrigger chooses one of those that the feed has installed.
func (p *postgresStore) someTrigger(ctx context.Context, i *injector) (name, table string, err error) {
	err = i.insist(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, statementTimeout)
		defer cancel()
		return p.pool.Load().QueryRow(ctx, `SELECT quote_ident(t.tgname), t.tgrelid::regclass::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
			WHERE p.pronamespace = 'sessiond'::regnamespace AND t.tgenabled = 'A' ORDER BY random() LIMIT 1`).Scan(&name, &table)
	})
	return name, table, err
}

// failover promotes a standby that lacks the last commits.
func (p *postgresStore) failover(ctx context.Context, i *injector, _ time.Duration) (string, error) {
	p.cluster.link.Hold(proxy.Down)
	// Commits of this time are lost. About as often as not a beat is among them.
	_ = pause(ctx, time.Duration(i.chance.Int64N(int64(i.Bound)*2/5)))
	ctx = context.WithoutCancel(ctx)
	what, err := i.losing(ctx, func() error {
		if err := p.cluster.promote(ctx); err != nil {
			return err
		}
		for _, a := range i.authorities {
			a.stores[p.link].Retarget(p.cluster.primary.address)
		}
		return p.connect(ctx, p.cluster.dsn(p.cluster.primary.address, database))
	})
	p.cluster.link.Heal()
	return what, errors.Join(err, p.cluster.addStandby(ctx))
}
