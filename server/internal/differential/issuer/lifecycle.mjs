// Issuers that go on from what sessiond did in their storage, and sessiond from what they did.
//
//   ISSUERS            JSON: [{"version": "1.4" or "1.7", "storage": "redis", "both" or "preserved", "database": URL, "redis": URL}]
//   BETTER_AUTH_SECRET what cookies are signed with
//
// It prints "issuers: ready on [URL, ...]" when the tables exist and all listen. Users have a field of
// every kind, so that what is copied of them into secondary storage can be compared.
import { createServer } from "node:http";
import pg from "pg";
import { Redis } from "ioredis";

const { ISSUERS, BETTER_AUTH_SECRET } = process.env;
const prefix = "better-auth:";
const closers = [];

const start = async ({ version, storage, database, redis: url }) => {
  const from = (path) => import(`better-auth-${version}${path}`);
  const { betterAuth } = await from("");
  const { getMigrations } = await from(version === "1.4" ? "/db" : "/db/migration");
  const { toNodeHandler } = await from("/node");
  const { admin } = await from("/plugins");
  const pool = new pg.Pool({ connectionString: database });
  pool.on("error", (error) => console.error(`issuer: database: ${error.message}`));
  const redis = new Redis(url);
  let handler;
  const server = createServer((request, response) => handler(request, response));
  const port = await new Promise((ready) => server.listen(0, "127.0.0.1", () => ready(server.address().port)));
  const options = {
    database: pool,
    secret: BETTER_AUTH_SECRET,
    baseURL: `http://127.0.0.1:${port}`,
    emailAndPassword: { enabled: true },
    rateLimit: { enabled: false },
    plugins: [admin()],
    logger: { disabled: true },
    user: {
      additionalFields: {
        nickname: { type: "string", input: false, defaultValue: 'Nick "<&>"' },
        seats: { type: "number", input: false, defaultValue: 3 },
        beta: { type: "boolean", input: false, defaultValue: true },
        seenAt: { type: "date", input: false, defaultValue: () => new Date("2024-01-02T03:04:05.060Z") },
        tags: { type: "string[]", input: false, defaultValue: ["a", "b c"] },
        settings: { type: "json", input: false, defaultValue: { zoom: 1, all: [true, null] } },
        note: { type: "string", input: false, returned: false, defaultValue: "not returned" },
        nothing: { type: "string", input: false, required: false },
      },
    },
    session: {
      storeSessionInDatabase: storage !== "redis",
      preserveSessionInDatabase: storage === "preserved",
      additionalFields: { theme: { type: "string", required: false } },
    },
    secondaryStorage: {
      get: (key) => redis.get(prefix + key),
      set: (key, value, ttl) => (ttl ? redis.set(prefix + key, value, "EX", ttl) : redis.set(prefix + key, value)),
      delete: (key) => redis.del(prefix + key),
    },
  };
  await (await getMigrations(options)).runMigrations();
  handler = toNodeHandler(betterAuth(options));
  closers.push(() => {
    server.close();
    server.closeAllConnections();
    pool.end();
    redis.disconnect();
  });
  return options.baseURL;
};

const urls = await Promise.all(JSON.parse(ISSUERS).map(start));
console.log("issuers: ready on " + JSON.stringify(urls));

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => closers.forEach((close) => close()));
