package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/server/internal/store/schema"
)

// outboxVersion is the version of the objects below. A change of theirs that an
// older or newer authority cannot work with raises it.
const outboxVersion = 1

// bulk is how many rows of one statement are named one by one; more are one
// "forget all". It is also how many events one read of the feed takes.
const bulk = 1000

// tablesDDL makes the tables, if they are not there.
var tablesDDL = []string{
	`create schema if not exists sessiond`,
	`create table if not exists sessiond.setting (
	one boolean primary key default true check (one),
	version integer not null,
	bound_ms bigint not null,
	coverage text not null check (coverage in ('full', 'own')),
	session_table text not null,
	user_table text not null,
	objects text not null)`,
	// xid is that of the top-level transaction, within savepoints too; n only makes
	// the key unique. Truncation by vacuum would take a lock that sign-outs meet.
	`create table if not exists sessiond.event (
	xid xid8 not null default pg_current_xact_id(),
	n bigint generated always as identity,
	kind "char" not null check (kind in ('k', 'u', 'a')),
	key bytea,
	usr text,
	urgent boolean not null default false,
	primary key (xid, n)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off)`,
	`create table if not exists sessiond.replica (
	id uuid primary key,
	beat bigint not null,
	position pg_snapshot not null,
	done pg_snapshot not null,
	done_era text not null
) with (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, vacuum_truncate = off)`,
	// Unlogged: emptied by every crash and on every promoted standby, kept by a clean restart.
	`create unlogged table if not exists sessiond.life (one boolean primary key default true check (one), id uuid not null default gen_random_uuid())`,
	`insert into sessiond.life default values on conflict do nothing`,
}

// names are the issuer's tables and columns, quoted as identifiers; those that end
// in Key are literals, as keys of to_jsonb.
type names struct {
	session, user                   string
	token, sessionID, owner, expiry string
	userID                          string
	tokenKey, ownerKey, userIDKey   string
	sessionUnwatched, userUnwatched string
}

func namesOf(m *schema.Mapping) names {
	column := func(t schema.MappedTable, field string) string { return schema.Quote(t.Fields[field].Name) }
	key := func(t schema.MappedTable, field string) string { return literal(t.Fields[field].Name) }
	unwatched := func(t schema.MappedTable, fields ...string) string {
		var keys []string
		for _, f := range fields {
			if c, ok := t.Fields[f]; ok {
				keys = append(keys, literal(c.Name))
			}
		}
		return "array[" + strings.Join(keys, ", ") + "]::text[]"
	}
	return names{
		session: m.Session.SQL(), user: m.User.SQL(),
		token: column(m.Session, "token"), sessionID: column(m.Session, "id"), owner: column(m.Session, "userId"), expiry: column(m.Session, "expiresAt"),
		userID:   column(m.User, "id"),
		tokenKey: key(m.Session, "token"), ownerKey: key(m.Session, "userId"), userIDKey: key(m.User, "id"),
		sessionUnwatched: unwatched(m.Session, "expiresAt", "updatedAt"), userUnwatched: unwatched(m.User, "updatedAt"),
	}
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// rescue is the end of every trigger function. A trigger that cannot name what
// ended, since a column was renamed or a value is not text, says "forget all". Where
// that fails too the issuer's statement fails; only an outbox that is gone is passed
// over, for then every beat fails and nothing is cached.
const rescue = `exception when others then
  begin
    insert into sessiond.event(kind) values ('a');
  exception when undefined_table or invalid_schema_name then null;
  end;
  return null;
end`

func function(name, body string) string {
	return fmt.Sprintf("create or replace function sessiond.%s() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$\n%s %s $$", name, body, rescue)
}

// functionsDDL makes the trigger functions (S1).
func functionsDDL(n names) []string {
	return []string{
		function("session_gone", fmt.Sprintf(`begin
  if (select count(*) from (select from gone limit %[1]d) x) > %[2]d then
    insert into sessiond.event(kind) values ('a');
  else
    insert into sessiond.event(kind, key, usr) select 'k', sha256(convert_to(o.%[3]s::text, 'UTF8')), o.%[4]s::text from gone o;
  end if;
  return null;`, bulk+1, bulk, n.token, n.owner)),
		function("session_changed", fmt.Sprintf(`declare keys bytea[]; users text[];
begin
  select array_agg(sha256(convert_to(x.token, 'UTF8'))), array_agg(x.usr) into keys, users from (
    select o.%[3]s::text as token, o.%[4]s::text as usr from gone o left join came n on n.%[5]s = o.%[5]s
    where (n.%[6]s >= o.%[6]s) is not true or to_jsonb(n) - %[7]s is distinct from to_jsonb(o) - %[7]s
    limit %[1]d) x;
  if cardinality(keys) > %[2]d then
    insert into sessiond.event(kind) values ('a');
  elsif cardinality(keys) > 0 then
    insert into sessiond.event(kind, key, usr) select 'k', k, u from unnest(keys, users) t(k, u);
  end if;
  return null;`, bulk+1, bulk, n.token, n.owner, n.sessionID, n.expiry, n.sessionUnwatched)),
		function("user_gone", fmt.Sprintf(`begin
  if (select count(*) from (select from gone limit %[1]d) x) > %[2]d then
    insert into sessiond.event(kind) values ('a');
  else
    insert into sessiond.event(kind, usr) select 'u', o.%[3]s::text from gone o;
  end if;
  return null;`, bulk+1, bulk, n.userID)),
		function("user_changed", fmt.Sprintf(`declare users text[];
begin
  select array_agg(x.usr) into users from (
    select o.%[3]s::text as usr from gone o left join came n on n.%[3]s = o.%[3]s
    where to_jsonb(n) - %[4]s is distinct from to_jsonb(o) - %[4]s
    limit %[1]d) x;
  if cardinality(users) > %[2]d then
    insert into sessiond.event(kind) values ('a');
  elsif cardinality(users) > 0 then
    insert into sessiond.event(kind, usr) select 'u', u from unnest(users) t(u);
  end if;
  return null;`, bulk+1, bulk, n.userID, n.userUnwatched)),
		function("forget_all", `begin
  insert into sessiond.event(kind) values ('a');
  return null;`),
		// The apply worker of a logical subscription fires row triggers only.
		function("session_applied", fmt.Sprintf(`begin
  insert into sessiond.event(kind, key, usr) values ('k', sha256(convert_to(to_jsonb(old) ->> %s, 'UTF8')), to_jsonb(old) ->> %s);
  return null;`, n.tokenKey, n.ownerKey)),
		function("user_applied", fmt.Sprintf(`begin
  insert into sessiond.event(kind, usr) values ('u', to_jsonb(old) ->> %s);
  return null;`, n.userIDKey)),
		// Nobody else may attach a function that runs with its owner's rights.
		`revoke all on all functions in schema sessiond from public`,
	}
}

// triggerCount is how many triggers full coverage needs.
const triggerCount = 8

// triggersDDL makes the triggers. ENABLE ALWAYS: replication roles fire them too.
func triggersDDL(n names) []string {
	var out []string
	for _, t := range []struct{ table, kind string }{{n.session, "session"}, {n.user, `user`}} {
		for _, name := range []string{"sessiond_delete", "sessiond_update", "sessiond_truncate", "sessiond_applied"} {
			out = append(out, fmt.Sprintf("drop trigger if exists %s on %s", name, t.table))
		}
		out = append(out,
			fmt.Sprintf("create trigger sessiond_delete after delete on %s referencing old table as gone for each statement execute function sessiond.%s_gone()", t.table, t.kind),
			fmt.Sprintf("create trigger sessiond_update after update on %s referencing old table as gone new table as came for each statement execute function sessiond.%s_changed()", t.table, t.kind),
			fmt.Sprintf("create trigger sessiond_truncate after truncate on %s for each statement execute function sessiond.forget_all()", t.table),
			fmt.Sprintf("create trigger sessiond_applied after delete or update on %s for each row execute function sessiond.%s_applied()", t.table, t.kind),
			fmt.Sprintf("alter table %s enable always trigger sessiond_delete, enable always trigger sessiond_update, enable always trigger sessiond_truncate, enable replica trigger sessiond_applied", t.table),
		)
	}
	return out
}

func dropTriggersDDL(session, user string) []string {
	var out []string
	for _, table := range []string{session, user} {
		for _, name := range []string{"sessiond_delete", "sessiond_update", "sessiond_truncate", "sessiond_applied"} {
			out = append(out, fmt.Sprintf("drop trigger if exists %s on %s", name, table))
		}
	}
	return out
}

// grantsDDL gives the role that the authority runs as what it needs, and no more.
func grantsDDL(n names, role string) []string {
	r := schema.Quote(role)
	return []string{
		"grant usage on schema sessiond to " + r,
		"grant select on sessiond.setting to " + r,
		"grant select, insert, delete on sessiond.event to " + r,
		"grant select, insert, update, delete on sessiond.replica to " + r,
		"grant select, insert on sessiond.life to " + r,
		fmt.Sprintf("grant select, delete on %s to %s", n.session, r),
		fmt.Sprintf("grant select on %s to %s", n.user, r),
	}
}

// digestOf names a version of the objects, to see whether they have to be made anew.
func digestOf(statements []string) string {
	sum := sha256.Sum256([]byte(strings.Join(statements, ";\n")))
	return hex.EncodeToString(sum[:])
}

// coverageSQL is a row of two columns: a fingerprint of everything that writes
// events, which changes when any of it was touched, though only for a moment; and
// how many of the triggers that full coverage needs are there, on the right tables,
// of the right functions, and enabled (S1). Partitioned tables count as none.
const coverageSQL = `select md5(string_agg(concat_ws(':', t.oid, t.xmin, t.tgenabled, c.oid, p.oid, p.xmin), ',' order by t.oid)) as objects,
    count(*) filter (where t.tgenabled = (case t.tgname when 'sessiond_applied' then 'R' else 'A' end)::"char" and c.relkind = 'r'
      and p.proname = case when t.tgname = 'sessiond_truncate' then 'forget_all'
        else case c.oid when to_regclass(s.session_table) then 'session' else 'user' end ||
          case t.tgname when 'sessiond_delete' then '_gone' when 'sessiond_update' then '_changed' else '_applied' end end
      and c.oid in (to_regclass(s.session_table), to_regclass(s.user_table))) as triggers
  from sessiond.setting s
  join pg_proc p on p.pronamespace = to_regnamespace('sessiond')
  join pg_trigger t on t.tgfoid = p.oid
  join pg_class c on c.oid = t.tgrelid`
