// Issuers to compare verdicts with: one version of Better Auth, configured in several ways.
//
//   VERSION  1.4 or 1.7
//   SEED     the same makes the same tokens
//   ISSUERS  JSON, a list of {database, redis, options, bearer}: the URLs (redis may be empty), options
//            of Better Auth's own, and those of its bearer plugin (null: without it)
//
// Each makes users and sessions, does to their stores what a deployment's life does, and then holds them
// still. One line of JSON says the ports and what was made. On "batch", POSTs to /N of lines
// [cookie, authorization] (base64 of the header's bytes, or null) are answered with lines
// [sessionId, userId, name], null for a refusal, or an HTTP status for anything else; on "http", as any
// Better Auth does.
import { mock } from "node:test";
import { createCipheriv, createHash } from "node:crypto";
import { createServer } from "node:http";
import pg from "pg";
import { Redis } from "ioredis";

const { VERSION, SEED, ISSUERS } = process.env;
const random = createCipheriv("aes-256-ctr", createHash("sha256").update(SEED).digest(), Buffer.alloc(16));
globalThis.crypto.getRandomValues = (array) => {
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(random.update(Buffer.alloc(array.byteLength)));
  return array;
};
const from = (path) => import(`better-auth-${VERSION}${path}`);
const { betterAuth } = await from("");
const { getMigrations } = await from(VERSION === "1.4" ? "/db" : "/db/migration");
const { toNodeHandler } = await from("/node");
const { admin, bearer, multiSession } = await from("/plugins");

const prefix = "better-auth:";
const hour = 3600_000;
const idle = hour; // connections stay open from one batch to the next, however long that takes
const past = "2020-01-01T00:00:00.000Z";
const future = "2099-01-01T00:00:00.000Z";
const big = "a name that needs several cookies ".repeat(200);

const start = async (config) => {
  const database = new pg.Pool({ connectionString: config.database, max: 4 });
  const redis = config.redis ? new Redis(config.redis) : null;
  const inRows = !redis || config.options.session?.storeSessionInDatabase;
  let still = false; // from then on the stores keep what they hold
  const options = {
    baseURL: "http://127.0.0.1:3000",
    ...config.options,
    database,
    // Hashing passwords is not what is compared, and slow.
    emailAndPassword: { enabled: true, password: { hash: async (text) => text, verify: async ({ hash, password }) => hash === password } },
    rateLimit: { enabled: false },
    plugins: [multiSession(), admin(), ...(config.bearer ? [bearer(config.bearer)] : [])],
    logger: { disabled: true },
    telemetry: { enabled: false },
    ...(redis && {
      secondaryStorage: {
        get: (key) => redis.get(prefix + key),
        set: (key, value, ttl) => !still && (ttl ? redis.set(prefix + key, value, "EX", ttl) : redis.set(prefix + key, value)),
        delete: (key) => !still && redis.del(prefix + key),
      },
    }),
  };
  await (await getMigrations(options)).runMigrations();
  const sql = inRows ? (text, ...values) => database.query(text, values) : () => ({ rows: [] }); // else there is no table
  await sql(`ALTER TABLE session DROP CONSTRAINT IF EXISTS "session_userId_fkey"`); // so that a user's row can go alone
  const auth = betterAuth(options);
  // The same before its secrets were rotated.
  const before = options.secrets && betterAuth({ ...options, secrets: options.secrets.slice(1) });
  const names = (await auth.$context).authCookies;
  const base = options.baseURL;
  const post = (path, body, cookies, by = auth) =>
    by.handler(new Request(`${base}/api/auth/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", origin: base, cookie: cookies.join("; ") },
      body: JSON.stringify(body),
    }));

  // Each browser: what became of its session, the cookies that it holds, and the bearer token.
  const made = [];
  const browser = async (kind, { name = "Ann", cookies = [], rememberMe = true, by = auth } = {}) => {
    const credentials = { email: `user${made.length}@example.com`, password: "correct horse battery", name, rememberMe };
    const response = await post("sign-up/email", credentials, cookies, by);
    const pairs = response.headers.getSetCookie().map((line) => line.split(";")[0]).filter((pair) => !pair.endsWith("="));
    const token = decodeURIComponent(pairs.find((pair) => pair.startsWith(names.sessionToken.name + "="))?.slice(names.sessionToken.name.length + 1) ?? "");
    if (!token) throw new Error(`sign-up answered ${response.status} ${await response.text()}`);
    const b = {
      kind, token,
      cookies: [...cookies.filter((pair) => pair.includes("_multi-")), ...pairs],
      bearer: response.headers.get("set-auth-token") ?? "",
      user: (await response.json()).user.id,
    };
    made.push(b);
    return b;
  };
  const raw = (b) => b.token.split(".")[0];
  const row = (b, set) => sql(`UPDATE session SET ${set} WHERE token = $1`, raw(b));
  const user = (b, sql) => database.query(sql, [b.user]);
  const key = async (b, change) => {
    if (!redis) return;
    const value = JSON.parse(await redis.get(prefix + raw(b)));
    change(value);
    await redis.set(prefix + raw(b), JSON.stringify(value));
  };

  for (let n = 0; n < 3; n++) await browser("good");
  await browser("not remembered", { rememberMe: false });
  await browser("two sessions", { cookies: made[0].cookies });
  if (options.session?.cookieCache) {
    await browser("big", { name: big });
    await browser("big", { name: big });
    // Issued two hours ago: the session is good, the cache over.
    mock.timers.enable({ apis: ["Date"], now: Date.now() - 2 * hour });
    await browser("old cache");
    await browser("old big cache", { name: big });
    mock.timers.reset();
  }
  if (before) await browser("before the rotation", { by: before });
  const out = await browser("signed out");
  await post("sign-out", {}, out.cookies);
  for (let n = 0; n < 2; n++) {
    const over = await browser("expired");
    await row(over, `"expiresAt" = '${past}'`);
    await key(over, (value) => (value.session.expiresAt = past));
  }
  for (let n = 0; n < 2; n++) await user(await browser("user deleted"), `DELETE FROM "user" WHERE id = $1`);
  if (redis) {
    await redis.set(prefix + raw(await browser("key broken")), "{");
    const list = prefix + raw(await browser("key of another type"));
    await redis.multi().del(list).lpush(list, "x").exec();
    await key(await browser("key without user"), (value) => (value.user = null));
    await redis.set(`${prefix}revoked-sessions-before-${(await browser("user's mark")).user}`, Date.now() + hour);
  }
  if (redis && inRows) {
    const gone = async (kind) => {
      const b = await browser(kind);
      await redis.del(prefix + raw(b));
      return b;
    };
    await gone("key gone");
    await row(await gone("key gone, row over"), `"expiresAt" = '${past}'`);
    await user(await gone("key gone, user deleted"), `DELETE FROM "user" WHERE id = $1`);
    await user(await browser("row gone"), `DELETE FROM session WHERE "userId" = $1`);
    await row(await browser("row over"), `"expiresAt" = '${past}'`);
    await row(await browser("row ends sooner"), `"expiresAt" = now() + interval '1 hour'`);
    await row(await browser("row ends later"), `"expiresAt" = '${future}'`);
    await key(await browser("key over"), (value) => (value.session.expiresAt = past));
    const both = await browser("key over, row ends later");
    await row(both, `"expiresAt" = '${future}'`);
    await key(both, (value) => (value.session.expiresAt = past));
    await user(await browser("user banned"), `UPDATE "user" SET banned = true WHERE id = $1`);
    await user(await browser("user renamed"), `UPDATE "user" SET name = 'Anne', "updatedAt" = now() WHERE id = $1`);
  }
  const { rows } = await sql(
    `SELECT s.token FROM session s JOIN "user" u ON u.id = s."userId" WHERE s."expiresAt" > now() AND u.banned IS NOT TRUE`);
  const good = new Set(rows.map((r) => r.token));
  for (const b of made) b.row = good.has(raw(b));

  // The issuer deletes what it finds expired, which changes no verdict but those that follow.
  await sql(`CREATE FUNCTION still() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`);
  await sql(`CREATE TRIGGER still BEFORE INSERT OR UPDATE OR DELETE ON session FOR EACH ROW EXECUTE FUNCTION still()`);
  still = true;

  const ask = async ([cookie, authorization]) => {
    if (refused(cookie) || refused(authorization)) return 400;
    let headers;
    try {
      headers = new Headers();
      if (cookie !== null) headers.set("cookie", Buffer.from(cookie, "base64").toString("latin1"));
      if (authorization !== null) headers.set("authorization", Buffer.from(authorization, "base64").toString("latin1"));
    } catch {
      return 400;
    }
    const response = await auth.handler(new Request(`${base}/api/auth/get-session?disableCookieCache=true&disableRefresh=true`, { headers })).catch(() => ({ status: 500 }));
    if (response.status !== 200) return response.status;
    const body = await response.json();
    return body && [body.session.id ?? "", body.user.id, body.user.name];
  };
  const http = createServer({ maxHeaderSize: 1 << 16, keepAliveTimeout: idle }, toNodeHandler(auth));
  return {
    ask, http,
    told: { token: names.sessionToken.name, data: names.sessionData.name, http: await listen(http), made },
    end: () => {
      database.end();
      redis?.disconnect();
    },
  };
};

const listen = (server) => new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server.address().port)));

// What node's HTTP parser refuses with 400: what goes over sockets shows that it does.
const refused = (bytes) => bytes !== null && /[\x00-\x08\x0a-\x1f\x7f]/.test(Buffer.from(bytes, "base64").toString("latin1"));

const issuers = []; // one after the other: the mocked clock is everybody's
for (const config of JSON.parse(ISSUERS)) issuers.push(await start(config));
const batch = createServer({ keepAliveTimeout: idle }, async (request, response) => {
  const { ask } = issuers[Number(request.url.slice(1))];
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const answers = [];
  for (const line of Buffer.concat(chunks).toString().trimEnd().split("\n")) answers.push(JSON.stringify(await ask(JSON.parse(line))));
  response.end(answers.join("\n"));
});
console.log("issuer: ready " + JSON.stringify({ batch: await listen(batch), issuers: issuers.map((i) => i.told) }));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    for (const server of [batch, ...issuers.map((i) => i.http)]) {
      server.close();
      server.closeAllConnections();
    }
    for (const i of issuers) i.end();
  });
}
