"""What is played in front of every app, step by step. A step returns nothing, or why it has nothing to check; what goes
otherwise than it should raises `Failed`."""

import time

from places import Failed
from visitor import Visitor

SPOOFED = [("X-User-Id", "99"), ("X_User_Id", "99"), ("x-user-id", "99")]


class Story:
    def __init__(self, app, sidegate, redis, carrier):
        self.app, self.sidegate, self.redis, self.carrier = app, sidegate, redis, carrier
        self.alice = None

    def through(self, visitor, method, path, **more):
        return visitor.ask(self.sidegate.port, method, path, **more)

    def logged_in(self):
        """Somebody who has logged in through the proxy."""
        visitor = Visitor(self.carrier)
        answer = self.through(visitor, "POST", "/login")
        expect(answer, answer.status == 200 and answer.by == "app" and visitor.jar, "a login")
        return visitor

    def refused(self, visitor, what, **more):
        """Neither the app nor the plain upstream hears of it."""
        for path in ("/me", "/plain"):
            answer = self.through(visitor.copy(), "GET", path, **more)
            expect(answer, answer.status == 401 and answer.by == "sidegate", f"{what} is refused at {path}")
            expect(answer, "Set-Cookie" not in answer.fields, f"{what} keeps its cookie")
            expect(answer, "WWW-Authenticate" in answer.fields, f"{what} is told how to authenticate")

    def passes(self, visitor, times=1):
        for _ in range(times):
            answer = self.through(visitor, "GET", "/plain")
            expect(answer, answer.status == 200 and answer.by == "plain", "a login passes")

    def step_stranger(self):
        """No credential: refused."""
        self.refused(Visitor(), "a stranger")

    def step_visitor(self):
        """A session in which nobody is logged in: refused."""
        visitor = Visitor(self.carrier)
        answer = self.through(visitor, "GET", "/visit", fields=SPOOFED)
        expect(answer, answer.status == 200 and answer.by == "app", "public pages are for everybody")
        expect(answer, answer.content["told"] is None, "nobody is introduced by himself")
        if not self.redis.sessions():
            raise Failed("the app stored no session for its visitor")
        self.refused(visitor, "a visitor")

    def step_login(self):
        """A login reaches the app, which agrees about who it is, and hears so from sidegate alone."""
        self.alice = self.logged_in()
        answer = self.through(self.alice, "GET", "/me", fields=SPOOFED)
        expect(answer, answer.status == 200 and answer.content["user"] == "7", "the app knows who is logged in")
        expect(answer, answer.content["told"] == "7", "X-User-Id is sidegate's")

    def step_untouched(self):
        """What the app stored stays as it is, byte for byte, and ends when it would have ended."""
        before = self.redis.sessions()
        self.passes(self.alice, times=3)
        if self.redis.sessions() != before:
            raise Failed("sessions in Redis have changed")

    def step_tampered(self):
        """One character is wrong: refused."""
        for part in (0.2, 0.5, 0.85):
            self.refused(self.alice.bent(part), "a bent credential")
        self.passes(self.alice)

    def step_twice(self):
        """Two different cookies of one name: refused."""
        if self.carrier != "cookie":
            return "no cookie"
        ((name, value),) = self.alice.jar.items()
        ((_, other),) = self.alice.bent(0.2).jar.items()
        for pair in (f"{name}={value}; {name}={other}", f"{name}={other}; {name}={value}"):
            self.refused(Visitor(), "a pair of cookies", cookies=pair)
        return None

    def step_logout(self):
        """After a logout through the proxy the credential is worth nothing, although it was remembered a moment ago."""
        self.warm(self.alice)
        before = self.alice.copy()
        answer = self.through(self.alice, "POST", "/logout")
        expect(answer, answer.status == 200 and answer.by == "app", "a logout")
        self.refused(before, "who has logged out")

    def step_elsewhere(self):
        """The same for a logout that sidegate does not see."""
        visitor = self.logged_in()
        self.warm(visitor)
        before = visitor.copy()
        answer = visitor.ask(self.app.port, "POST", "/logout")
        expect(answer, answer.status == 200, "a logout at the app")
        self.refused(before, "who has logged out elsewhere")

    def step_outage(self):
        """Without Redis: 503, never a logout; with it again the session goes on."""
        visitor = self.logged_in()
        self.passes(visitor)

        def away():
            # What is remembered near is forgotten with the connection that would tell of changes; a moment is allowed.
            self.until(visitor, {200, 503}, 503)
            answer = self.through(visitor, "GET", "/plain")
            expect(answer, answer.status == 503 and "Retry-After" in answer.fields, "an outage is said to be one")
            expect(answer, "Set-Cookie" not in answer.fields, "an outage keeps cookies")

        self.redis.restart(away)
        self.until(visitor, {200, 503}, 200)

    def warm(self, visitor):
        """Lets sidegate remember this login, and makes sure that it does."""
        hits = lambda: self.sidegate.metric("sidegate_near_hits_total", "session")  # noqa: E731
        before, deadline = hits(), time.monotonic() + 10
        while hits() == before:
            self.passes(visitor)
            if time.monotonic() > deadline:
                raise Failed("sidegate remembers no login")

    def until(self, visitor, allowed, wanted):
        deadline = time.monotonic() + 20
        while True:
            answer = self.through(visitor, "GET", "/plain")
            expect(answer, answer.status in allowed, f"one of {allowed}")
            if answer.status == wanted:
                return
            if time.monotonic() > deadline:
                raise Failed(f"no {wanted}, but {answer}")
            time.sleep(0.02)


def expect(answer, held, what):
    if not held:
        raise Failed(f"expected: {what}; came: {answer}")


STEPS = [name.removeprefix("step_") for name in vars(Story) if name.startswith("step_")]
