// Express with express-session and connect-redis; LOGIN=passport logs in as that package does.
// Environment: PORT, REDIS_PORT, SESSION_SECRET (several with commas between: the first signs), VISITORS=1 (every visitor
// gets a stored session), LOGIN.
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import passport from "passport";
import { createClient } from "redis";

const { PORT, REDIS_PORT, SESSION_SECRET, VISITORS, LOGIN } = process.env;
const client = createClient({ url: `redis://127.0.0.1:${REDIS_PORT}` });
client.on("error", () => {});
await client.connect();

const app = express();
app.use(
  session({
    store: new RedisStore({ client }),
    secret: SESSION_SECRET.split(","),
    resave: false,
    saveUninitialized: VISITORS === "1",
  }),
);

const alice = { id: 7 };
let login = (request, done) =>
  request.session.regenerate((error) => {
    request.session.user_id = alice.id;
    done(error);
  });
let who = (request) => request.session.user_id;
if (LOGIN === "passport") {
  passport.serializeUser((user, done) => done(null, user.id));
  passport.deserializeUser((id, done) => done(null, id === alice.id ? alice : false));
  app.use(passport.session());
  login = (request, done) => request.login(alice, done);
  who = (request) => request.user?.id;
}

const said = (request, response, status = 200) => {
  const user = who(request);
  response.set("X-Answered-By", "app").status(status);
  response.json({ user: user === undefined ? null : String(user), told: request.get("X-User-Id") ?? null });
};
app.get("/visit", (request, response) => {
  request.session.cart = ["book"];
  said(request, response);
});
app.post("/login", (request, response, next) =>
  login(request, (error) => (error ? next(error) : said(request, response))),
);
app.get("/me", (request, response) => said(request, response, who(request) === undefined ? 401 : 200));
app.post("/logout", (request, response, next) =>
  request.session.destroy((error) => {
    if (error) return next(error);
    response.set("X-Answered-By", "app").json({ user: null, told: null });
  }),
);
app.listen(Number(PORT), "127.0.0.1");
