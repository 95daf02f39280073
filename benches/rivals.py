"""Who else limits, and Redis: servers that need not be installed for the other rows to be measured.

1. Each proxies with the same duties as sidegate and nginx (`subjects`), with one thread, and limits on a path of its own:
   what limiting costs is told by comparison with itself.
2. HAProxy counts in a stick table, and Varnish, as HAProxy and nginx, keeps responses in memory. nginx with Lua asks Redis:
   to limit (`limit.lua`), and for the whole job (`job.lua`).
3. Each that counts in Redis has a Redis of its own, which keeps nothing on disk.
4. The whole job is to verify a session, to count a limit, and to answer from the store.
"""

import contextlib
import pathlib
import re
import shutil
import socket
import time

from load import SESSIONS
from subjects import ROOT, Failed, NginxProxy, Server, Sidegate

MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
LUA_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
CJSON = pathlib.Path("/usr/share/lua/5.1/cjson")
LUA_REDIS = pathlib.Path("/usr/share/lua/5.1/nginx/redis.lua")

HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
    http-reuse always
    option http-keep-alive
    option forwardfor
    unique-id-format %{{+X}}o%ci%cp%Ts%rt
    unique-id-header X-Request-Id
backend addresses
    stick-table type ip size 100k expire 2m store http_req_rate(1m)
cache pages
    total-max-size 128
    max-object-size 1000000
    max-age 3600
frontend proxy
    bind 127.0.0.1:{port}
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    acl limited path_beg /limited/
    acl stored path_beg /cached/
    http-request track-sc0 src table addresses if limited
    http-request deny deny_status 429 if limited {{ sc_http_req_rate(0,addresses) gt 6000000 }}
    use_backend stored if stored
    default_backend app
backend stored
    http-request cache-use pages
    http-response cache-store pages
    http-response set-header X-Cache MISS
    server app 127.0.0.1:{upstream} maxconn 4096 pool-max-conn 256
backend app
    server app 127.0.0.1:{upstream} maxconn 4096 pool-max-conn 256
"""

LUA_GLOBAL = "\n".join("load_module {modules}/%s;" % module for module in LUA_MODULES)

LUA = """
    lua_package_path "{benches}/?.lua;/usr/share/lua/5.1/?.lua;;";
    init_by_lua_block {{ limit = require "limit"; job = require "job" }}
"""

LUA_LOCATION = """
        location /exact/ {{ access_by_lua_block {{ limit.check({redis}) }} proxy_pass http://app; }}
        location /job/ {{ content_by_lua_block {{ job.answer({redis}) }} }}
        location /app/ {{ internal; proxy_pass http://app/; }}
"""

SIDEGATE = """
[redis]
url = "redis://127.0.0.1:{redis}/0"
timeout = "5s"

[limit.exact]
key = "address"
quota = "6000000 per minute"
precision = "exact"

[limit.leased]
key = "address"
quota = "6000000 per minute"
precision = "leased"

[[route]]
path = "/exact/{{*rest}}"
limits = ["exact"]

[[route]]
path = "/leased/{{*rest}}"
limits = ["leased"]
"""

# The whole job, below /cached/ as below /job/; one of the two rows compares with who does only a part of it.
JOB = """
[redis]
url = "redis://127.0.0.1:{redis}/0"
timeout = "5s"

[near]
enabled = {near}

[session.web]
format = "json"
from = ["cookie:session"]
forward = {{ X-User-Id = "user_id" }}

[[route]]
path = "/job/{{*rest}}"
session = "web"
limits = ["per-address"]
cache = "pages"

[[route]]
path = "/cached/{{*rest}}"
session = "web"
limits = ["per-address"]
cache = "pages"
"""

VARNISH = """
vcl 4.1;
backend app {{ .host = "127.0.0.1"; .port = "{upstream}"; }}
sub vcl_recv {{
    set req.http.X-Forwarded-Proto = "http";
    set req.http.X-Forwarded-Host = req.http.Host;
    set req.http.X-Request-Id = req.xid;
    if (req.url !~ "^/cached/") {{ return (pass); }}
    unset req.http.Cookie;
}}
sub vcl_deliver {{
    if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} else {{ set resp.http.X-Cache = "MISS"; }}
}}
"""


class Redis(Server):
    """A Redis on a free port of loopback."""

    name = "redis"

    @staticmethod
    def missing():
        return None if shutil.which("redis-server") else "redis-server"

    def command(self):
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory,
                "--save", "", "--appendonly", "no", "--maxmemory", "256mb"]

    def answers(self):
        return self.ask("PING") == "PONG"

    def ask(self, *words):
        """The first line, or the bulk string, that answers a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall((" ".join(words) + "\r\n").encode())
            with connection.makefile("rb") as answer:
                first = answer.readline().decode().strip()
                return answer.read(int(first[1:])).decode() if first.startswith("$") else first[1:]

    def decisions(self):
        """Scripts called so far, and the µs that Redis spent in them by its own account."""
        found = re.findall(r"cmdstat_(?:evalsha|eval|fcall):calls=(\d+),usec=(\d+)", self.ask("INFO", "commandstats"))
        return sum(int(calls) for calls, _ in found), sum(int(micros) for _, micros in found)


class CountsInRedis(Server):
    """A subject with a Redis of its own."""

    def __enter__(self):
        with contextlib.ExitStack() as opened:
            self.redis = opened.enter_context(Redis(self.directory.parent))
            super().__enter__()
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *failure):
        super().__exit__(*failure)
        # Not there if it did not start.
        with getattr(self, "opened", contextlib.nullcontext()):
            pass


class SidegateWithRedis(CountsInRedis, Sidegate):
    @staticmethod
    def missing():
        return Redis.missing()

    def configuration(self):
        return super().configuration() + SIDEGATE.format(redis=self.redis.port)


class SidegateWithJob(CountsInRedis, Sidegate):
    """Session in Redis, limit, cache; what Redis said is remembered while it stands."""

    near = "true"
    precision = ""

    @staticmethod
    def missing():
        return Redis.missing()

    def configuration(self):
        before, _, after = super().configuration().partition('[[route]]\npath = "/cached/')
        plain = after.partition("[[route]]")[2]
        job = JOB.format(redis=self.redis.port, near=self.near)
        return before.replace("[cache.pages]", f"{self.precision}[cache.pages]") + job + "\n[[route]]" + plain

    def __enter__(self):
        super().__enter__()
        fill_sessions(self.redis)
        return self


class SidegateWithoutNear(SidegateWithJob):
    """The same, asking Redis for everything at every request."""

    near = "false"
    precision = 'precision = "exact"\n\n'


def fill_sessions(redis):
    for number in range(1, SESSIONS + 1):
        redis.ask("SET", f"session:{number:032d}", "'{\"user_id\":%d,\"role\":\"staff\"}'" % number)


class Varnish(Server):
    name = "varnish"

    @staticmethod
    def missing():
        return None if shutil.which("varnishd") else "varnish"

    def command(self):
        file = self.directory / "default.vcl"
        file.write_text(VARNISH.format(upstream=self.upstream.port))
        return ["varnishd", "-F", "-j", "none", "-n", self.directory / "work", "-f", file, "-a", f"127.0.0.1:{self.port}",
                "-T", "none", "-s", "malloc,256m", "-p", "thread_pools=1", "-p", "timeout_idle=75"]


class Haproxy(Server):
    name = "haproxy"

    @staticmethod
    def missing():
        return None if shutil.which("haproxy") else "haproxy"

    def command(self):
        file = self.directory / "haproxy.cfg"
        file.write_text(HAPROXY.format(port=self.port, upstream=self.upstream.port))
        return ["haproxy", "-db", "-f", file]


class NginxWithLua(CountsInRedis, NginxProxy):
    name = "nginx+lua"

    @staticmethod
    def modules():
        return next((at for at in map(pathlib.Path, MODULES) if all((at / name).exists() for name in LUA_MODULES)), None)

    @classmethod
    def missing(cls):
        wanted = {"libnginx-mod-http-lua": cls.modules(), "lua-nginx-redis": LUA_REDIS.exists()}
        packages = [package for package, found in wanted.items() if not found]
        packages += [] if CJSON.exists() else ["lua-cjson"]
        packages += filter(None, [Redis.missing()])
        return " ".join(packages) or None

    def directives(self):
        return LUA_GLOBAL.format(modules=self.modules())

    def content(self):
        return LUA.format(benches=ROOT / "benches") + super().content()

    def __enter__(self):
        super().__enter__()
        fill_sessions(self.redis)
        return self

    def locations(self):
        return LUA_LOCATION.format(redis=self.redis.port)
