"""The servers: the upstream, nginx in front of it, and sidegate in front of it.

1. nginx is tuned as somebody who knows it would: connections to the upstream are kept, files are not opened twice,
   nothing is logged, nothing goes to disk, the cache is in memory.
2. Both proxies tell the upstream who called, by which scheme and host, and give the request an identifier.
"""

import contextlib
import http.client
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Failed(Exception):
    """Something did not work as it must for the figures to mean anything."""


NGINX = """
daemon off; worker_processes 1; worker_rlimit_nofile {files}; pid {directory}/pid; {user}
{directives}
error_log {directory}/error.log error;
events {{ worker_connections {files}; }}
http {{
    access_log off; sendfile on; tcp_nodelay on; server_tokens off;
    keepalive_timeout 75; keepalive_requests 1000000000; client_max_body_size 0;
    open_file_cache max=4096 inactive=1h; open_file_cache_valid 1h; default_type text/plain;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
{content}
}}
"""

UPSTREAM = """
    server {{
        listen 127.0.0.1:{port};
        root {directory}/files;
        location = /1k {{ return 200 "{kibibyte}"; }}
        location ~ ^/(plain|limited|leased|exact)/ {{ return 200 "{kibibyte}"; }}
        location ~ ^/(cached|job)/ {{ add_header Cache-Control "public, max-age=3600"; return 200 "{kibibyte}"; }}
        location ^~ /cached/64k/ {{ add_header Cache-Control "public, max-age=3600"; rewrite ^ /64k break; }}
    }}
"""

PROXY = """
    upstream app {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 75; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    proxy_max_temp_file_size 0;
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=pages:16m inactive=1h use_temp_path=off;
    limit_req_zone $binary_remote_addr zone=address:10m rate=100000r/s;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{h2_port} http2;
        location / {{ proxy_pass http://app; }}
        location /plain/ {{ proxy_pass http://app; }}
        location /limited/ {{ limit_req zone=address burst=100000 nodelay; proxy_pass http://app; }}
        location /cached/ {{
            limit_req zone=address burst=100000 nodelay;
            proxy_cache pages; proxy_cache_key $scheme$http_host$request_uri; proxy_cache_valid 200 1h;
            add_header X-Cache $upstream_cache_status;
            proxy_pass http://app;
        }}
{locations}
    }}
"""

SIDEGATE = """
[server]
listen = ["127.0.0.1:{port}"]
workers = 1
max_connections = 20000
max_connections_per_address = 20000

[admin]
listen = "off"

[log]
level = "warn"
access = false

[upstream.app]
servers = ["http://127.0.0.1:{upstream}"]

[limit.per-address]
key = "address"
quota = "6000000 per minute"

[cache.pages]
ttl = "1h"

[[route]]
path = "/plain/{{*rest}}"

[[route]]
path = "/limited/{{*rest}}"
limits = ["per-address"]

[[route]]
path = "/cached/{{*rest}}"
limits = ["per-address"]
cache = "pages"

[[route]]
path = "/{{*rest}}"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A subject or the upstream: a process with its children, which is there once the block begins."""

    name = ""

    def __init__(self, scratch, upstream=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self.name + "-", dir=scratch))
        self.port, self.h2_port = free_port(), free_port()
        self.upstream, self.process = upstream, None

    @staticmethod
    def missing():
        """What has to be installed first (Debian's names), if anything."""

    def command(self):
        raise NotImplementedError

    def answers(self):
        """Whether it serves; or OSError."""
        self.expect("/1k", 1024)
        return True

    def __enter__(self):
        self.log = open(self.directory / "log", "w+b")
        # A session of its own: Ctrl-C is for us, and we tell it.
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_it_answers(self):
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                if self.answers():
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "log").read_text(errors="replace")[-2000:]
                raise Failed(f"{self.name} does not answer on port {self.port}. It said:\n{said}")
            time.sleep(0.05)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, path, port=None):
        return f"http://127.0.0.1:{port or self.port}{path}"

    def expect(self, path, length, method="GET", **fields):
        """One request; the answer has to be 200, so long, and have these fields."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body=b"x" * 1024 if method == "POST" else None)
            answer = connection.getresponse()
            content = answer.read()
        found = {name: answer.headers.get(name.replace("_", "-")) for name in fields}
        if answer.status != 200 or len(content) != length or found != fields:
            raise Failed(f"{self.name}: {method} {path}: {answer.status}, {len(content)} bytes, {found}")

    def processes(self):
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                queue += map(int, children.read_text().split())
        return found

    def cpu(self):
        """Seconds of CPU time so far."""
        nanoseconds = 0
        for pid in self.processes():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def resident(self):
        """Bytes of memory that are resident now."""
        kibibytes = 0
        for pid in self.processes():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            kibibytes += int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        return kibibytes * 1024


class Nginx(Server):
    def directives(self):
        return ""

    def content(self):
        raise NotImplementedError

    def command(self):
        files = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        user = "user root;" if os.getuid() == 0 else ""
        text = NGINX.format(
            directory=self.directory, directives=self.directives(), content=self.content(), files=files, user=user)
        (self.directory / "nginx.conf").write_text(text)
        error_log = self.directory / "log"
        return ["nginx", "-e", error_log, "-p", self.directory, "-c", self.directory / "nginx.conf"]


class Upstream(Nginx):
    name = "upstream"

    def content(self):
        files = self.directory / "files"
        files.mkdir()
        (files / "64k").write_bytes(b"x" * 64 * 1024)
        with open(files / "100m", "wb") as sparse:
            sparse.truncate(100 << 20)
        return UPSTREAM.format(port=self.port, directory=self.directory, kibibyte="x" * 1024)


class NginxProxy(Nginx):
    name = "nginx"

    def locations(self):
        return ""

    def content(self):
        return PROXY.format(
            port=self.port, h2_port=self.h2_port, upstream=self.upstream.port, directory=self.directory,
            locations=self.locations())


class Sidegate(Server):
    name = "sidegate"
    binary = ROOT / "target/release/sidegate"

    def configuration(self):
        return SIDEGATE.format(port=self.port, upstream=self.upstream.port)

    def command(self):
        self.h2_port = self.port  # one listener speaks both (prior knowledge)
        file = self.directory / "sidegate.toml"
        file.write_text(self.configuration())
        return [self.binary, "run", "--config", file]
