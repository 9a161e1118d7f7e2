// A stateless issuer to compare verdicts with: Better Auth without a database. Its users are in
// the memory of one process, so there are two of them.
//
//   VERSION            1.4 or 1.7
//   CACHE              session.cookieCache as JSON; empty: the defaults
//   ROLE               make: makes users and sessions, prints what browsers hold, and ends
//                      judge: knows of nobody; prints its port, and answers
//   BETTER_AUTH_SECRET what cookies are signed with
//   KEYS               of the jwt plugin, as make has printed them; "[]" makes one, unset: no plugin
//
// The judge answers POSTs of an instant in milliseconds and lines [cookie, authorization] (base64
// of the header's bytes, or null) with lines [sessionId, userId, userName, refreshed], null for a refusal, or an HTTP status.
import { createServer } from "node:http";

const { VERSION, CACHE, ROLE, BETTER_AUTH_SECRET, KEYS } = process.env;
const from = (path) => import(`better-auth-${VERSION}${path}`);
const { betterAuth } = await from("");
const { bearer, jwt } = await from("/plugins");

// The clock of this process: cookies of the past are made by going there, and verdicts given at
// the instant that is asked for.
const real = Date.now;
let now = real;
globalThis.Date = class extends Date {
  constructor(...args) {
    args.length ? super(...args) : super(now());
  }
  static now() {
    return now();
  }
};

const keys = KEYS ? JSON.parse(KEYS).map((key) => ({ ...key, createdAt: new Date(key.createdAt) })) : [];
const keyring = {
  getJwks: async () => keys,
  createJwk: async (key) => {
    keys.push({ id: `key${keys.length}`, ...key });
    return keys.at(-1);
  },
};
const base = "http://127.0.0.1:3000";
const issuer = (secret = BETTER_AUTH_SECRET, cookieCache = {}, session = {}) =>
  betterAuth({
    secret,
    baseURL: base,
    emailAndPassword: { enabled: true, password: { hash: async (password) => password, verify: async ({ hash, password }) => hash === password } },
    rateLimit: { enabled: false },
    plugins: [bearer(), ...(KEYS ? [jwt({ sessionCookieCache: true, adapter: keyring, jwks: { disablePrivateKeyEncryption: true } })] : [])],
    logger: { disabled: true },
    user: { additionalFields: { biography: { type: "string", required: false } } },
    ...(CACHE || Object.keys(cookieCache).length ? { session: { ...session, cookieCache: { ...(CACHE && JSON.parse(CACHE)), ...cookieCache } } } : { session }),
  });

const json = { "content-type": "application/json", origin: base };
const jar = (response) => response.headers.getSetCookie().map((line) => line.split(";")[0]).filter((pair) => !pair.endsWith("="));
const post = (auth, path, body, cookies = []) =>
  auth.handler(new Request(`${base}/api/auth/${path}`, { method: "POST", headers: { ...json, cookie: cookies.join("; ") }, body: JSON.stringify(body) }));

// make signs users up and in, and returns what their browsers hold.
const make = async () => {
  const made = [];
  let n = 0;
  const sign = async (kind, auth, { ago = 0, biography, rememberMe = true } = {}) => {
    now = () => real() - ago * 1000;
    const credentials = { email: `user${n}@example.com`, password: "correct horse battery" };
    await post(auth, "sign-up/email", { ...credentials, name: `User ${n++}`, biography });
    const response = await post(auth, "sign-in/email", { ...credentials, rememberMe });
    now = real;
    const cookies = jar(response);
    const token = decodeURIComponent(cookies.find((c) => c.startsWith("better-auth.session_token="))?.split("=")[1] ?? "");
    if (response.status !== 200 || !cookies.some((c) => c.startsWith("better-auth.session_data"))) throw new Error(`${kind}: status ${response.status}, ${cookies.length} cookies`);
    made.push({ kind, cookies, token, bearer: response.headers.get("set-auth-token") });
    return cookies;
  };
  const auth = issuer();
  const long = Array.from({ length: 7000 }, () => "abcdefghijklmnopqrstuvwxyz"[Math.floor(Math.random() * 26)]).join("");
  for (let i = 0; i < 4; i++) await sign("good", auth);
  for (let i = 0; i < 2; i++) await sign("in chunks", auth, { biography: long });
  await sign("names beyond ASCII", auth, { biography: "Zoë ☕ \u2028 \ud83e\udd80 <\"\\>" });
  await sign("not remembered", auth, { rememberMe: false });
  const out = await sign("signed out", auth);
  await post(auth, "sign-out", {}, out);
  const maxAge = { maxAge: 1000 };
  await sign("due for a refresh", issuer(undefined, maxAge), { ago: 960 });
  await sign("cookie over", issuer(undefined, maxAge), { ago: 1100 });
  await sign("session over", issuer(undefined, { maxAge: 90000 }, { expiresIn: 60 }), { ago: 120 });
  await sign("another version", issuer(undefined, { version: "2" }));
  await sign("another secret", issuer("another secret of thirty-two bytes and more"));
  const jwks = KEYS && (await (await auth.handler(new Request(`${base}/api/auth/jwks`))).json());
  console.log("issuer: made " + JSON.stringify({ made, keys, jwks }));
};

// What node's HTTP parser refuses with 400.
const refused = (bytes) => bytes !== null && /[\x00-\x08\x0a-\x1f\x7f]/.test(Buffer.from(bytes, "base64").toString("latin1"));

const judge = async () => {
  const auth = issuer();
  const ask = async ([cookie, authorization]) => {
    if (refused(cookie) || refused(authorization)) return 400;
    const headers = new Headers();
    if (cookie !== null) headers.set("cookie", Buffer.from(cookie, "base64").toString("latin1"));
    if (authorization !== null) headers.set("authorization", Buffer.from(authorization, "base64").toString("latin1"));
    const response = await auth.handler(new Request(`${base}/api/auth/get-session`, { headers })).catch(() => ({ status: 500 }));
    if (response.status !== 200) return response.status;
    const body = await response.json();
    return body && [body.session.id, body.user.id, body.user.name, jar(response).some((pair) => pair.startsWith("better-auth.session_data"))];
  };
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const [at, ...lines] = Buffer.concat(chunks).toString().trimEnd().split("\n");
    now = () => Number(at);
    const answers = [];
    for (const line of lines) answers.push(JSON.stringify(await ask(JSON.parse(line))));
    response.end(answers.join("\n"));
  });
  server.listen(0, "127.0.0.1", () => console.log(`issuer: judges ${server.address().port}`));
  process.once("SIGTERM", () => {
    server.close();
    server.closeAllConnections();
  });
};

await (ROLE === "make" ? make() : judge());
