"""Rows about stored responses.

1. Every request presents one of a thousand sessions, in turn, and asks for one of two hundred URLs. Who does the whole job
   verifies the session and counts a limit; who does not is said in the row.
2. A hit that was none ends the run: before and after the load the answer says how it came about.
3. Misses are for URLs that nobody asked for before, and each is stored.
"""

import http.client

from load import job, h2load, misses, wrk
from subjects import Failed

MISS_RATE, MISS_CLIENTS = 2000, 20
COOKIE = "session=" + "1".zfill(32)


def answer(server, path, **fields):
    """Status, fields and length of the answer to one GET with a session."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request("GET", path, headers={"Cookie": COOKIE} | fields)
        answer = connection.getresponse()
        return answer.status, answer.headers, len(answer.read())
    finally:
        connection.close()


def expect(server, path, status, length, **fields):
    found, headers, size = answer(server, path, **fields)
    # HAProxy tells a hit by nothing, so it is told by the mark that only misses have.
    outcome = headers.get("X-Cache", "HIT")
    if (found, size) != (status, length) or not (outcome == "HIT" or status != 200 or headers.get("Age")):
        raise Failed(f"{server.name}: GET {path}: {found}, {size} bytes, {outcome}")


def hits(server, options, path, status=200, length=1024, **fields):
    script = job(path, **fields)
    wrk(server, 1, path, job(path))  # fills the store
    expect(server, path + "1", status, length, **fields)
    used, requests, _, _ = wrk(server, options.seconds, path, script)
    expect(server, path + "1", status, length, **fields)
    return {"cpu": used * 1e6 / requests}


def stored_1k(server, options):
    return hits(server, options, "/cached/")


def stored_64k(server, options):
    return hits(server, options, "/cached/64k/", length=64 * 1024)


def not_modified(server, options):
    _, headers, _ = answer(server, "/cached/64k/1")
    return hits(server, options, "/cached/64k/", status=304, length=0, If_None_Match=headers["ETag"])


def stored_range(server, options):
    return hits(server, options, "/cached/64k/", status=206, length=1024, Range="bytes=32768-33791")


def job_hit(server, options):
    return hits(server, options, "/job/")


def job_hit_asked(server, options):
    return hits(server, options, "/job/")


def job_miss(server, options):
    used, requests, _, _ = wrk(server, options.seconds, "/job/", misses("/job/"))
    return {"cpu": used * 1e6 / requests}


def job_miss_p99(server, options):
    paths = server.directory / "paths"
    count = MISS_RATE * options.seconds * 2
    run = str(id(options)) + str(server.cpu()).replace(".", "")
    paths.write_text("".join(f"{server.url(f'/job/{run}-{number}')}\n" for number in range(count)))
    _, requests, latencies = h2load(
        server, options.seconds, "--h1", f"-c{MISS_CLIENTS}", f"--rps={MISS_RATE // MISS_CLIENTS}", "-H", f"Cookie: {COOKIE}",
        "-i", paths)
    if requests < MISS_RATE * options.seconds * 0.9 and not options.smoke:
        raise Failed(f"{server.name}: {requests} requests in {options.seconds} s, not {MISS_RATE} a second")
    latencies.sort()
    return {"p99": latencies[int(len(latencies) * 0.99)], "p50": latencies[len(latencies) // 2]}
