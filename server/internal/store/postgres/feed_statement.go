package postgres

import "fmt"

// The statements of the feed. Each is a transaction of its own and depends on no
// state of the session, so that a pooler in transaction mode may stand in between.
// Positions travel as text: no driver needs to know pg_snapshot.

// durableSQL makes the commit of its transaction durable whatever the default, and
// waits for no standby that the default does not wait for (F3). It must stand where
// it is evaluated: in the RETURNING of what writes, or in a target list.
const durableSQL = `set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'local' ELSE current_setting('synchronous_commit') END, true)`

// originSQL is what begins every answer: the snapshot of this very statement (F1)
// and the era (F4).
const originSQL = `pg_current_snapshot()::text, ` + timelineSQL + `, COALESCE(` + lifeSQL + `, '')`

// eventsSQL is the events since the position in a parameter (F1). An OR would be a
// sequential scan under a generic plan; the index serves each of two branches. One
// more than bulk means that there were too many.
func eventsSQL(parameter string) string {
	return fmt.Sprintf(`(SELECT xid, n, kind, key, usr, urgent FROM sessiond.event WHERE xid >= pg_snapshot_xmax(%[1]s::text::pg_snapshot) ORDER BY xid, n LIMIT %[2]d)
  UNION ALL
  (SELECT xid, n, kind, key, usr, urgent FROM sessiond.event WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(%[1]s::text::pg_snapshot))) LIMIT %[2]d)`, parameter, bulk+1)
}

// pollSQL reads the events since $1. At least one row comes back.
var pollSQL = `SELECT ` + originSQL + `, e.kind::text, e.key, e.usr, e.urgent
FROM (SELECT 1) AS one LEFT JOIN (
  ` + eventsSQL("$1") + `
) AS e ON true`

// beatSQL writes the row and reads the events. $1 the id; $2 the number of the last
// acknowledged beat; $3 of this one; $4 the position of the last acknowledged beat
// (F7); $5 and $6 what is done, and in which era; $7 where to read from. No row: the
// place is lost (G3). system is systemSQL or noSystemSQL.
func beatSQL(system string) string {
	return `WITH b AS (
  UPDATE sessiond.replica AS r
  SET beat = greatest(r.beat, $3::bigint), position = $4::text::pg_snapshot, done = $5::text::pg_snapshot, done_era = $6::text
  WHERE r.id = $1::text::uuid AND r.beat >= $2::bigint
  RETURNING ` + durableSQL + ` AS durable)
SELECT ` + originSQL + `, e.kind::text, e.key, e.usr, e.urgent, ` + system + `, b.durable,
  COALESCE((SELECT version FROM sessiond.setting), 0), COALESCE((SELECT coverage FROM sessiond.setting), ''), COALESCE(c.objects, ''), c.triggers
FROM b CROSS JOIN (` + coverageSQL + `) AS c LEFT JOIN (
  ` + eventsSQL("$7") + `
) AS e ON true`
}

// registerSQL takes the place $1, if the feed is of version $2 and for the bound
// of $3 milliseconds. A new place is done with all that it can never have cached.
func registerSQL(system string) string {
	return `WITH r AS (
  INSERT INTO sessiond.replica(id, beat, position, done, done_era)
  SELECT $1::text::uuid, 1, pg_current_snapshot(), pg_current_snapshot(), concat(` + timelineSQL + `, ':', ` + lifeSQL + `)
  FROM sessiond.setting WHERE version = $2::int AND bound_ms = $3::bigint AND EXISTS (SELECT FROM sessiond.life)
  RETURNING ` + durableSQL + ` AS durable)
SELECT ` + originSQL + `, ` + system + `, r.durable, s.version, s.bound_ms, s.coverage, COALESCE(c.objects, ''), c.triggers
FROM sessiond.setting AS s CROSS JOIN (` + coverageSQL + `) AS c LEFT JOIN r ON true`
}

// revisionSQL reads the present snapshot.
func revisionSQL(system string) string { return `SELECT ` + originSQL + `, ` + system }

const (
	// replicasSQL reads the registry. At least one row comes back.
	replicasSQL = `SELECT ` + originSQL + `, r.id::text, r.beat, r.done::text, r.done_era
FROM (SELECT 1) AS one LEFT JOIN sessiond.replica AS r ON true`

	// excludeSQL removes the row $1 if it is still at the beat $2 (G4), and the server
	// still in the era $3, where that is not empty.
	excludeSQL = `WITH gone AS (
  DELETE FROM sessiond.replica
  WHERE id = $1::text::uuid AND beat = $2::bigint AND ($3::text = '' OR $3::text = concat(` + timelineSQL + `, ':', ` + lifeSQL + `))
  RETURNING ` + durableSQL + ` AS durable)
SELECT durable FROM gone`

	// cleanSQL removes up to $1 of the events that are visible in what every replica
	// has written down (F7). One that is visible here and not finished here came with
	// a dump of another server. Rows of the outbox are never updated, so that ctid
	// names one for as long as the statement runs.
	cleanSQL = `DELETE FROM sessiond.event WHERE ctid = ANY (ARRAY(
  SELECT e.ctid FROM sessiond.event AS e
  WHERE NOT EXISTS (SELECT FROM sessiond.replica AS r WHERE NOT pg_visible_in_snapshot(e.xid, r.position))
     OR NOT pg_visible_in_snapshot(e.xid, pg_current_snapshot())
  LIMIT $1::bigint))`
)
