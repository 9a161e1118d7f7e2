// The issuer of the example: Better Auth with e-mail and password on PostgreSQL, and nothing else.
//
//   DATABASE_URL         the database, also the authority's
//   BETTER_AUTH_SECRET   what cookies are signed with, at least 32 characters
//   PORT                 the port to listen on, on 127.0.0.1 (default 3000)
//   BASE_URL             what browsers call it (default http://127.0.0.1:PORT)
//
// It prints "issuer: ready on URL" when the tables exist and it listens.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const { DATABASE_URL, BETTER_AUTH_SECRET, PORT = "3000", BASE_URL = `http://127.0.0.1:${PORT}` } = process.env;
if (!DATABASE_URL || !BETTER_AUTH_SECRET) {
  console.error("issuer: set DATABASE_URL and BETTER_AUTH_SECRET");
  process.exit(2);
}

const database = new pg.Pool({ connectionString: DATABASE_URL });
// Without a listener, an idle connection that the database closes would end the process.
database.on("error", (error) => console.error(`issuer: database: ${error.message}`));

const options = {
  database,
  secret: BETTER_AUTH_SECRET,
  baseURL: BASE_URL,
  emailAndPassword: { enabled: true },
};
const { runMigrations } = await getMigrations(options);
await runMigrations();

const server = createServer(toNodeHandler(betterAuth(options)));
server.listen(Number(PORT), "127.0.0.1", () => console.log(`issuer: ready on ${BASE_URL}`));

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close(() => database.end());
    server.closeAllConnections();
  });
}
