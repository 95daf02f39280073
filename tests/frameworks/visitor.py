"""A browser, as far as a session needs one: requests, and a cookie jar by hand."""

import contextlib
import email.utils
import http.client
import json
import time


class Answer:
    """What came back."""

    def __init__(self, response):
        self.status, self.fields, content = response.status, response.headers, response.read()
        self.by = self.fields.get("X-Answered-By", "sidegate")
        try:
            self.content = json.loads(content)
        except ValueError:
            self.content = {}

    def __str__(self):
        return f"{self.status} by {self.by} {json.dumps(self.content)[:200]}"


class Visitor:
    """Somebody with a cookie jar, or with a token where `carrier` is `bearer` or `query`."""

    def __init__(self, carrier="cookie", jar=None):
        self.carrier, self.jar = carrier, dict(jar or {})

    def ask(self, port, method, path, fields=(), cookies=None):
        """One request; `cookies` instead of those in the jar."""
        sent = list(fields)
        if self.carrier == "bearer" and self.jar:
            sent.append(("Authorization", f"Bearer {self.credential}"))
        elif self.carrier == "query" and self.jar:
            path += f"?token={self.credential}"
        elif cookies is None:
            cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.putrequest(method, path)
            for name, value in sent + ([("Cookie", cookies)] if cookies else []):
                connection.putheader(name, value)
            if method == "POST":
                connection.putheader("Content-Length", "0")
            connection.endheaders()
            answer = Answer(connection.getresponse())
        self.remember(answer)
        return answer

    def remember(self, answer):
        """Takes up what the answer sets (RFC 6265 §5.3, the parts that matter here)."""
        if self.carrier != "cookie":
            if answer.content.get("token"):
                self.jar = {"token": answer.content["token"]}
            return
        for line in answer.fields.get_all("Set-Cookie", []):
            pair, *attributes = line.split(";")
            name, _, value = pair.strip().partition("=")
            given = {key.strip().lower(): text.strip() for key, _, text in (one.partition("=") for one in attributes)}
            over = given.get("max-age", "1").startswith(("0", "-"))
            if "max-age" not in given and "expires" in given:
                over = email.utils.parsedate_to_datetime(given["expires"]).timestamp() < time.time()
            if over:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value

    @property
    def credential(self):
        """The only thing in the jar."""
        (value,) = self.jar.values()
        return value

    def copy(self):
        """Somebody else with the same jar."""
        return Visitor(self.carrier, self.jar)

    def bent(self, part):
        """Somebody whose credential differs in one character, so far (0 to 1) along it."""
        ((name, value),) = self.jar.items()
        at = int(len(value) * part)
        while not value[at].isalnum():
            at += 1
        instead = ("1" if value[at] != "1" else "2") if value[at].isdigit() else ("b" if value[at] != "b" else "c")
        return Visitor(self.carrier, {name: value[:at] + instead + value[at + 1:]})
