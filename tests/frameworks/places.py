"""The processes of one run, each on a free port, and stopped at the end: Redis, the app, sidegate, and a plain upstream."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time


class Failed(Exception):
    """What went otherwise than it should."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process with its children, which listens at `port` once it is started."""

    def __init__(self, name, directory, command, port, environment=None):
        self.name, self.directory, self.command, self.port = name, directory, command, port
        self.environment = os.environ | (environment or {})
        self.running = None

    def start(self, patience=30):
        with open(self.directory / f"{self.name}.log", "ab") as log:
            self.running = subprocess.Popen(
                self.command, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            if self.running.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise Failed(f"{self.name} does not listen on port {self.port}. It said:\n{said}")
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        if self.running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running.pid, how)
        try:
            self.running.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self.running = None


class Redis(Process):
    """A Redis of its own, and what is asked of it."""

    def __init__(self, directory):
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        super().__init__("redis", directory, command, port)

    def ask(self, *words):
        """One command and its answer: text as bytes, lists as lists."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            encoded = [str(word).encode() if not isinstance(word, bytes) else word for word in words]
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(b"*%d\r\n%s" % (len(encoded), parts))
            with connection.makefile("rb") as answers:
                return self.answer(answers)

    def answer(self, answers):
        kind, rest = (line := answers.readline().rstrip(b"\r\n"))[:1], line[1:]
        if kind == b"-":
            raise Failed(f"Redis says {rest.decode()}")
        if kind == b"$":
            return None if rest == b"-1" else answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer(answers) for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def sessions(self):
        """What the app keeps, byte for byte, and when each key ends."""
        keys = [key for key in self.ask("KEYS", "*") if not key.startswith(b"sidegate:")]
        return {key: (self.ask("DUMP", key), self.ask("PEXPIRETIME", key)) for key in keys}

    def restart(self, while_away):
        """Goes away with all connections, and comes back with all keys; calls `while_away` between."""
        self.ask("SAVE")
        self.stop(signal.SIGKILL)
        while_away()
        self.start()


class Plain:
    """An upstream that answers everybody with 200: whoever passes sidegate passes, and no session slides because of it."""

    def __init__(self):
        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("X-Answered-By", "plain")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True
        self.port = self.server.server_port

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


CONFIGURATION = """\
[server]
listen = ["127.0.0.1:{listen}"]

[admin]
listen = "127.0.0.1:{admin}"

[redis]
url = "redis://127.0.0.1:{redis}"
timeout = "1s"          # a test machine may be busy

[upstream.app]
servers = ["http://127.0.0.1:{app}"]

[upstream.plain]
servers = ["http://127.0.0.1:{plain}"]

[session.web]
{session}

[[route]]
path = "/me"
upstream = "app"
session = "web"

[[route]]
path = "/plain"
upstream = "plain"
session = "web"

[[route]]
path = "/{{*rest}}"
upstream = "app"
"""


class Sidegate(Process):
    """The binary in front of the app."""

    def __init__(self, binary, directory, session, ports, environment):
        port, self.admin = free_port(), free_port()
        file = pathlib.Path(directory) / "sidegate.toml"
        file.write_text(CONFIGURATION.format(listen=port, admin=self.admin, session=session, **ports))
        super().__init__("sidegate", directory, [binary, "run", "--config", str(file)], port, environment)

    def metric(self, name, label=""):
        """The sum of a metric's series that have this label."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)) as connection:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and label in line)

    def ready(self):
        """Waits until each worker has its Redis."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)) as connection:
                connection.request("GET", "/readyz")
                told = json.loads(connection.getresponse().read())
            if told.get("redis", {}).get("workers_up", 0) >= 1 and self.metric("sidegate_near_in_use", "tracking"):
                return
            time.sleep(0.05)
        raise Failed("sidegate has no Redis")
