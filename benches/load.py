"""The load: each function returns the CPU seconds that the server used meanwhile, and what the load generator saw."""

import re
import subprocess

from subjects import Failed

CONNECTIONS = 64
STORED_URLS = 1000

REPORT = """
done = function(summary)
    local e = summary.errors
    io.write(string.format("\\nresult %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration,
                           e.connect + e.read + e.write + e.status + e.timeout))
end
"""
POST = 'wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n'
STORED = """
local requests, next = {}, 0
init = function()
    for i = 1, %d do requests[i] = wrk.format("GET", "/cached/" .. i) end
end
request = function()
    next = next %% #requests + 1
    return requests[next]
end
""" % STORED_URLS


def run(command, patience):
    finished = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=patience)
    if finished.returncode:
        raise Failed(f"{command[0]} failed:\n{finished.stdout[-2000:]}")
    return finished.stdout


def wrk(server, seconds, path, script="", connections=CONNECTIONS):
    lua = server.directory / "load.lua"
    lua.write_text(script + REPORT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", lua, server.url(path)]
    before = server.cpu()
    output = run(command, seconds + 90)
    used = server.cpu() - before
    requests, size, micros, errors = map(int, re.search(r"result (\d+) (\d+) (\d+) (\d+)", output).groups())
    if errors or not size:
        raise Failed(f"{server.name}: wrk {path}: {errors} errors in {requests} requests\n{output}")
    return used, requests, size, micros / 1e6


def micros_per_request(server, seconds, path, script=""):
    used, requests, _, _ = wrk(server, seconds, path, script)
    return {"cpu": used * 1e6 / requests}


def h2load(server, seconds, *options, port=None, path="/1k"):
    """Also returns the latencies of all requests, in microseconds."""
    log = server.directory / "latencies"
    log.unlink(missing_ok=True)
    before = server.cpu()
    output = run(["h2load", "-t1", "-D", seconds, f"--log-file={log}", *options, server.url(path, port)], seconds + 60)
    used = server.cpu() - before
    total, failed = map(int, re.search(r"requests: (\d+) total.* (\d+) failed", output).groups())
    lines = [line.split() for line in log.read_text().splitlines()]
    if failed or total == 0 or any(status != "200" for _, status, _ in lines):
        raise Failed(f"{server.name}: h2load: {failed} of {total} requests failed\n{output}")
    return used, total, [int(latency) for _, _, latency in lines]
