#!/usr/bin/env python3
"""Compares sidegate with others doing the same, on this machine, in one run. Python's own library is all it needs.

1. What is compared is CPU time: what the kernel says that the processes of a subject ran
   (/proc/PID/task/*/schedstat, in nanoseconds), divided by the requests that the load generator saw completed.
2. Each has one worker, the same upstream (an nginx of its own) and the same job; all traffic is on loopback.
3. The subjects take turns, and every other round in reverse order. A ratio is that of one round; what is shown is
   the median over the rounds, so that a busy minute of the machine falls on all.
4. An answer that is not the expected one ends the run: errors are fast, and would look well.
5. Whatever was started is stopped at the end, also on Ctrl-C.
6. nginx is needed, and is what sidegate is compared with unless a row says otherwise. Redis and the rivals that limit
   are not: a row says which of them is missing, and how to get it.

Quote ratios, not microseconds: they differ from machine to machine by more than the subjects do.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import caches
import limits
from load import CONNECTIONS, POST, STORED, h2load, micros_per_request, wrk
from rivals import Haproxy, NginxWithLua, SidegateWithJob, SidegateWithRedis, SidegateWithoutNear, Varnish
from subjects import ROOT, Failed, NginxProxy, Sidegate, Upstream

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client"}
os.environ["PATH"] += ":/usr/sbin:/sbin"  # where Debian keeps nginx

STALLED_READERS = 8
RATE, RATE_CLIENTS = 2000, 20


# The rows: each measures one server once and returns named figures; the first one named by the row is compared.


def get_1k(server, options):
    return micros_per_request(server, options.seconds, "/1k")


def post_1k(server, options):
    server.expect("/1k", 1024, "POST")
    return micros_per_request(server, options.seconds, "/1k", POST)


def get_64k(server, options):
    return micros_per_request(server, options.seconds, "/64k")


def hit_with_limit(server, options):
    wrk(server, 1, "/cached/1", STORED)  # fills the store, and keeps it full
    server.expect("/cached/1", 1024, X_Cache="HIT")
    figures = micros_per_request(server, options.seconds, "/cached/1", STORED)
    server.expect("/cached/1", 1024, X_Cache="HIT")
    return figures


def http2_cleartext(server, options):
    used, requests, _ = h2load(server, options.seconds, "-c16", "-m10", port=server.h2_port)
    return {"cpu": used * 1e6 / requests}


def stream_100_mib(server, options):
    used, _, size, seconds = wrk(server, options.seconds, "/100m", connections=2)
    return {"cpu": used * 1e6 / (size / 2**20), "MiB/s": size / 2**20 / seconds}


def stalled_readers(server, _):
    before = server.resident()
    most = before
    with contextlib.ExitStack() as open_sockets:
        for _ in range(STALLED_READERS):
            reader = open_sockets.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(b"GET /100m HTTP/1.1\r\nHost: bench\r\n\r\n")
        for _ in range(30):
            time.sleep(0.1)
            most = max(most, server.resident())
    return {"growth": (most - before) / 2**20}


def idle_connections(server, options):
    before = server.resident()
    with contextlib.ExitStack() as open_sockets:
        clients = []
        for _ in range(options.connections):
            client = open_sockets.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            client.sendall(b"GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < 1024:
                piece = client.recv(4096)
                if not piece:
                    raise Failed(f"{server.name} closed connection {len(clients) + 1}: {answer[:200]}")
                answer += piece
            clients.append(client)
        time.sleep(options.idle)
        after = server.resident()
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise Failed(f"{server.name} did not keep its idle connections: {client.recv(100)}")
    return {"memory": (after - before) / 1024 / options.connections}


def moderate_rate(server, options):
    used, requests, latencies = h2load(
        server, options.seconds, "--h1", f"-c{RATE_CLIENTS}", f"--rps={RATE // RATE_CLIENTS}")
    if requests < RATE * options.seconds * 0.9:
        raise Failed(f"{server.name}: {requests} requests in {options.seconds} s, not {RATE} a second")
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
    return {"p99": p99, "p50": p50, "cpu": used * 1e6 / requests}


class Row:
    """One line of the table. `ratio` bounds sidegate relative to the first rival, `bound` sidegate alone."""

    def __init__(self, measure, what, unit, ratio=None, bound=None, fresh=False, ours=Sidegate, rivals=(NginxProxy,)):
        self.measure, self.what, self.unit = measure, what, unit
        self.name = measure.__name__.replace("_", "-")
        self.ratio, self.bound, self.fresh = ratio, bound, fresh
        self.ours, self.rivals = ours, rivals

    def subjects(self):
        """Those that are installed; none without ours."""
        return [subject for subject in (self.ours, *self.rivals) if not (self.ours.missing() or subject.missing())]

    def missing(self):
        """Name and packages of those that are not."""
        subjects = (self.ours, *self.rivals)
        return {subject.name: subject.missing() for subject in subjects if subject.missing()}

    def target(self):
        return f"≤ {self.ratio:.2f} ×" if self.ratio else f"≤ {self.bound} {self.unit}"

    def judge(self, samples):
        """What the samples (subject → list of figures, one a round) say."""
        verdict = {"row": self.name, "what": self.what, "unit": self.unit, "target": self.target(),
                   "missing": self.missing()}
        if not samples:
            return verdict
        ours = samples["sidegate"]
        key = next(iter(ours[0]))
        verdict |= {"compared": key, "rounds": len(ours)}
        for name, taken in samples.items():
            verdict[name] = {
                figure: round(statistics.median(sample[figure] for sample in taken), 3) for figure in taken[0]}
        if self.ratio:
            theirs = samples.get(self.rivals[0].name, [])
            seen = [our[key] / their[key] for our, their in zip(ours, theirs)]
            bound = self.ratio
        else:
            seen, bound = [our[key] for our in ours], self.bound
        if seen:
            middle = round(statistics.median(seen), 3)
            verdict |= {"range": [round(min(seen), 3), round(max(seen), 3)], "met": middle <= bound}
            if self.ratio:
                verdict["ratio"] = middle
        return verdict


ROWS = [
    Row(get_1k, "GET 1 KiB, proxied", "µs", ratio=1.05),
    Row(post_1k, "POST 1 KiB, proxied", "µs", ratio=1.10),
    Row(get_64k, "GET 64 KiB, proxied", "µs", ratio=0.80),
    Row(hit_with_limit, "hit of a stored 1 KiB, with a limit", "µs", ratio=0.75),
    Row(limits.in_memory_limit, "what an in-memory limit adds to GET 1 KiB", "%", bound=3, rivals=(NginxProxy, Haproxy)),
    Row(limits.leased_limit, "what a leased limit in Redis adds to it", "%", bound=3, ours=SidegateWithRedis, rivals=()),
    Row(limits.exact_limit, "GET 1 KiB, proxied, exact limit in Redis", "µs", ratio=0.60, ours=SidegateWithRedis,
        rivals=(NginxWithLua,)),
    Row(limits.redis_exact, "Redis's CPU, exact limit", "µs", bound=4, ours=SidegateWithRedis, rivals=(NginxWithLua,)),
    Row(limits.redis_leased, "Redis's CPU, leased limit", "µs", bound=0.3, ours=SidegateWithRedis, rivals=()),
    Row(limits.leased_calls, f"Redis calls, leased, {limits.HOT_RATE} requests a second", "", bound=0.05,
        ours=SidegateWithRedis, rivals=()),
    Row(caches.stored_1k, "whole job, hit 1 KiB in memory; theirs: cache", "µs", ratio=0.70, ours=SidegateWithJob,
        rivals=(NginxProxy, Haproxy, Varnish)),
    Row(caches.stored_64k, "the same, 64 KiB", "µs", ratio=0.70, ours=SidegateWithJob,
        rivals=(NginxProxy, Haproxy, Varnish)),
    # Without HAProxy: the Content-Length in its 304 has wrk wait for content.
    Row(caches.not_modified, "the same, 304", "µs", ratio=0.70, ours=SidegateWithJob,
        rivals=(NginxProxy, Varnish)),
    Row(caches.stored_range, "the same, 1 KiB of 64 as a range", "µs", ratio=0.70, ours=SidegateWithJob,
        rivals=(NginxProxy, Varnish)),
    Row(caches.job_hit, "whole job over Redis, hit 1 KiB", "µs", ratio=0.40, ours=SidegateWithJob,
        rivals=(NginxWithLua,)),
    Row(caches.job_hit_asked, "the same, Redis asked at every request", "µs", ratio=0.56, ours=SidegateWithoutNear,
        rivals=(NginxWithLua,)),
    Row(caches.job_miss, "whole job over Redis, miss and store", "µs", ratio=0.65, ours=SidegateWithJob,
        rivals=(NginxWithLua,)),
    Row(caches.job_miss_p99, f"the same, {caches.MISS_RATE} a second, p99", "µs", ratio=1.00, ours=SidegateWithJob,
        rivals=(NginxWithLua,)),
    Row(http2_cleartext, "GET 1 KiB, proxied, HTTP/2 cleartext", "µs", ratio=0.80),
    Row(stream_100_mib, "100 MiB stream, CPU for each MiB", "µs", ratio=0.75),
    Row(stalled_readers, f"100 MiB to {STALLED_READERS} stalled readers, memory growth", "MiB", bound=8, fresh=True),
    Row(idle_connections, "an idle client connection, memory", "KiB", bound=4, fresh=True),
    Row(moderate_rate, f"{RATE} requests a second, p99", "µs", ratio=1.00),
]


def measure(row, scratch, upstream, options):
    subjects = row.subjects()
    samples = {subject.name: [] for subject in subjects}
    with contextlib.ExitStack() as running:
        if not row.fresh:
            servers = [running.enter_context(subject(scratch, upstream)) for subject in subjects]
            for server in servers:
                wrk(server, 1, "/1k")  # warms all
        # Memory does not vary as time does.
        for number in range(min(options.rounds, 3) if row.fresh else options.rounds):
            order = range(len(subjects)) if number % 2 == 0 else reversed(range(len(subjects)))
            for index in order:
                if row.fresh:
                    with subjects[index](scratch, upstream) as server:
                        wrk(server, 1, "/1k", connections=2)
                        time.sleep(1.5)  # what is given back after a moment is given back
                        figures = row.measure(server, options)
                else:
                    figures = row.measure(servers[index], options)
                samples[subjects[index].name].append(figures)
    return row.judge(samples)


def line(what, *cells):
    widths = (11, 11, 5, 11, 8, 3)
    *cells, notes = cells
    cells = [what.ljust(45)] + [cell.rjust(width) for cell, width in zip(cells, widths)] + [notes]
    return "  ".join(cells).rstrip()


def show(verdict):
    def figure(subject):
        value = verdict[subject][verdict["compared"]]
        return f"{value:.{1 if abs(value) >= 10 else 2}f} {verdict['unit']}".strip()

    rivals = [subject.name for row in ROWS for subject in row.rivals if row.name == verdict["row"]]
    found = [name for name in rivals if name in verdict]
    ratio = f"{verdict['ratio']:.2f}" if "ratio" in verdict else ""
    spread = "{:.2f}–{:.2f}".format(*verdict["range"]) if "range" in verdict else ""
    met = {True: "yes", False: "NO"}.get(verdict.get("met"), "–")
    ours = figure("sidegate") if "sidegate" in verdict else "–"
    # The column is nginx's; who else was measured follows.
    nginx = figure("nginx") if "nginx" in found else ""
    notes = [f"{name} {figure(name)}" for name in found if name != "nginx"]
    notes += [f"not measured: {name} (apt-get install {packages})" for name, packages in verdict["missing"].items()]
    print(line(verdict["what"], ours, nginx, ratio, spread, verdict["target"], met, "; ".join(notes)), flush=True)


def install():
    """Installs nginx, wrk and h2load from Debian where they are missing."""
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        needed = f"{', '.join(PACKAGES)} (in Debian: {' '.join(missing)})"
        raise Failed(f"it needs {needed}: install them and run this again")
    root = [] if os.getuid() == 0 else ["sudo"]
    # RUNLEVEL: Debian would start an nginx of its own on port 80.
    quiet = root + ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]
    for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *missing]):
        if subprocess.run(quiet + command).returncode:
            raise Failed(f"'apt-get {' '.join(command)}' failed")


def said_by(*command):
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        finished = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10)
        return next(iter(finished.stdout.strip().splitlines()), "")
    return ""


def circumstances(options):
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": model[1] if model else platform.machine(), "cores": os.cpu_count(),
                    "kernel": platform.release(), "system": platform.freedesktop_os_release().get("PRETTY_NAME", "")},
        "versions": {"sidegate": said_by(str(Sidegate.binary), "--version"),
                     "commit": said_by("git", "describe", "--always", "--dirty"),
                     "rustc": said_by("rustc", "--version"), "nginx": said_by("nginx", "-v"),
                     "haproxy": said_by("haproxy", "-v"), "varnish": said_by("varnishd", "-V"), "redis": said_by("redis-server", "--version"),
                     "wrk": said_by("wrk", "-v"), "h2load": said_by("h2load", "--version")},
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "connections": CONNECTIONS,
                     "idle_connections": options.connections, "workers": 1, "smoke": options.smoke},
    }


def arguments():
    parser = argparse.ArgumentParser(
        description="Compares sidegate with nginx and others: CPU time, memory, latency.",
        epilog="rows: " + " ".join(row.name for row in ROWS))
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each row (memory: at most 3)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load in a round")
    parser.add_argument("--only", action="append", metavar="ROW", choices=[row.name for row in ROWS],
                        help="this row; may be repeated")
    parser.add_argument("--binary", type=pathlib.Path, help="the sidegate to measure; otherwise it is built (release)")
    parser.add_argument("--smoke", action="store_true",
                        help="one short round of each row: shows that the tool works, no more")
    parser.add_argument("--install-only", action="store_true", help="install what is missing, and end")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    options.connections, options.idle = 10_000, 5
    if options.smoke:
        options.rounds, options.seconds, options.connections, options.idle = 1, 1, 200, 1
    return options


def main():
    options = arguments()
    if not sys.platform.startswith("linux"):
        raise Failed("it reads /proc, and so runs on Linux alone")
    install()
    if options.install_only:
        return
    if options.binary:
        Sidegate.binary = options.binary.resolve()
    else:
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "sidegate"], cwd=ROOT, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY:
        options.connections = min(options.connections, hard - 1000)

    report = circumstances(options) | {"rows": []}
    machine = report["machine"]
    print(f"{report['date']}, {machine['processor']}, {machine['cores']} cores, {report['versions']['nginx']}")
    print(line("", "sidegate", "nginx", "ratio", "range", "target", "met", "others"), flush=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nginx's store belongs into memory, as ours is
    with tempfile.TemporaryDirectory(prefix="sidegate-bench-", dir=memory) as scratch, Upstream(scratch) as upstream:
        for row in ROWS:
            if options.only and row.name not in options.only:
                continue
            verdict = measure(row, scratch, upstream, options)
            report["rows"].append(verdict)
            show(verdict)
    output = ROOT / ("bench-out/smoke.json" if options.smoke else "bench-out/bench.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"\nCPU time is for each request unless said otherwise; all of it is in {output.relative_to(ROOT)}.")


def stop(number, _):
    """Ends the run as an exception does, so that everything is stopped; once is enough."""
    for repeated in (signal.SIGINT, signal.SIGTERM):
        signal.signal(repeated, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        main()
    except (Failed, subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        sys.exit(f"bench: {failure}")
