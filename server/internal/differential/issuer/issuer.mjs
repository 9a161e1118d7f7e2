// An issuer to compare verdicts with: one version of Better Auth with one kind of storage.
//
//   VERSION            1.4 or 1.7
//   STORAGE            sql, redis or both
//   DATABASE_URL       PostgreSQL
//   REDIS_URL          for redis and both
//   BETTER_AUTH_SECRET what cookies are signed with
//
// It makes users and sessions and prints one line of JSON: the ports and what it made. Then it
// answers, on "batch", POSTs of lines [cookie, authorization] (base64 of the header's bytes, or
// null) with lines [sessionId, userId], null for a refusal, or an HTTP status for anything else;
// and on "http", as any Better Auth does.
import { createServer } from "node:http";
import { createHmac } from "node:crypto";
import pg from "pg";
import { Redis } from "ioredis";

const { VERSION, STORAGE, DATABASE_URL, REDIS_URL, BETTER_AUTH_SECRET } = process.env;
const from = (path) => import(`better-auth-${VERSION}${path}`);
const { betterAuth } = await from("");
const { getMigrations } = await from(VERSION === "1.4" ? "/db" : "/db/migration");
const { toNodeHandler } = await from("/node");
const { bearer, multiSession } = await from("/plugins");

const base = "http://127.0.0.1:3000";
const database = new pg.Pool({ connectionString: DATABASE_URL });
const redis = STORAGE === "sql" ? null : new Redis(REDIS_URL);
const prefix = "better-auth:";
const options = {
  database,
  secret: BETTER_AUTH_SECRET,
  baseURL: base,
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  plugins: [bearer(), multiSession()],
  logger: { disabled: true },
  session: { storeSessionInDatabase: STORAGE === "both" },
  ...(redis && {
    secondaryStorage: {
      get: (key) => redis.get(prefix + key),
      set: (key, value, ttl) => (ttl ? redis.set(prefix + key, value, "EX", ttl) : redis.set(prefix + key, value)),
      delete: (key) => redis.del(prefix + key),
    },
  }),
};
await (await getMigrations(options)).runMigrations();
const auth = betterAuth(options);

const json = { "content-type": "application/json", origin: base };
const jar = (response) =>
  response.headers.getSetCookie().map((line) => line.split(";")[0]).filter((pair) => !pair.endsWith("="));
const post = (path, body, cookies = []) =>
  auth.handler(new Request(`${base}/api/auth/${path}`, { method: "POST", headers: { ...json, cookie: cookies.join("; ") }, body: JSON.stringify(body) }));

// Each kind of session: the cookies of the browser, and the bearer token.
const made = [];
const signUp = async (n, kind, rememberMe = true) => {
  const credentials = { email: `user${n}@example.com`, password: "correct horse battery" };
  await post("sign-up/email", { ...credentials, name: `User ${n}` });
  const response = await post("sign-in/email", { ...credentials, rememberMe });
  const cookies = jar(response);
  const token = decodeURIComponent(cookies.find((c) => c.startsWith("better-auth.session_token="))?.split("=")[1] ?? "");
  made.push({ kind, cookies, token, bearer: response.headers.get("set-auth-token") });
  return { cookies, id: (await response.json()).user.id, raw: token.split(".")[0] };
};
for (let n = 0; n < 6; n++) await signUp(n, "good");
await signUp(10, "not remembered", false);
const out = await signUp(11, "signed out");
await post("sign-out", {}, out.cookies);
const past = await signUp(12, "expired");
await database.query(`UPDATE session SET "expiresAt" = '2020-01-01' WHERE token = $1`, [past.raw]).catch(() => {});
if (redis) {
  const value = JSON.parse(await redis.get(prefix + past.raw));
  value.session.expiresAt = "2020-01-01T00:00:00.000Z";
  await redis.set(prefix + past.raw, JSON.stringify(value));
}
const gone = await signUp(13, "user gone");
await database.query(`DELETE FROM "user" WHERE id = $1`, [gone.id]);

// What node's HTTP parser refuses with 400: what goes over sockets shows that it does.
const refused = (bytes) => bytes !== null && /[\x00-\x08\x0a-\x1f\x7f]/.test(Buffer.from(bytes, "base64").toString("latin1"));

// ask is one verdict. Expired sessions are deleted by the issuer as it refuses them, which changes no verdict.
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
  return body && [body.session.id ?? "", body.user.id];
};

const read = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};
const batch = createServer(async (request, response) => {
  const lines = (await read(request)).trimEnd().split("\n");
  const answers = [];
  for (const line of lines) answers.push(JSON.stringify(await ask(JSON.parse(line))));
  response.end(answers.join("\n"));
});
const http = createServer({ maxHeaderSize: 1 << 16 }, toNodeHandler(auth));
const listen = (server) => new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server.address().port)));
const other = (token) => createHmac("sha256", "another secret of thirty-two bytes").update(token).digest("base64");
console.log("issuer: ready " + JSON.stringify({ batch: await listen(batch), http: await listen(http), made, forged: other(made[0].token.split(".")[0]) }));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    for (const server of [batch, http]) {
      server.close();
      server.closeAllConnections();
    }
    database.end();
    redis?.disconnect();
  });
}
