"""The load: each function returns the CPU seconds that the server used meanwhile, and what the load generator saw."""

import json
import re
import subprocess
import time

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


SESSIONS, JOB_URLS = 1000, 200
# Every request presents one of the sessions, whether its server looks at it or not.
JOB = """
local requests, next = {}, 0
init = function()
    for i = 1, %d do
        local fields = { Cookie = "session=" .. string.format("%%032d", i) }
        for name, value in pairs(fields_besides) do fields[name] = value end
        requests[i] = wrk.format("GET", path .. (i %% %d + 1), fields)
    end
end
request = function()
    next = next %% #requests + 1
    return requests[next]
end
""" % (SESSIONS, JOB_URLS)
# A URL that nobody has asked for yet, each time.
MISSES = """
local next, sessions = 0, {}
init = function()
    for i = 1, %d do sessions[i] = { Cookie = "session=" .. string.format("%%032d", i) } end
end
request = function()
    next = next + 1
    return wrk.format("GET", path .. run .. "-" .. next, sessions[next %% #sessions + 1])
end
""" % SESSIONS


def job(path, **fields):
    """The script of `JOB` below `path`, with these fields besides."""
    besides = ", ".join(f'["{name.replace("_", "-")}"] = {json.dumps(value)}' for name, value in fields.items())
    return f'local path, fields_besides = "{path}", {{ {besides} }}\n{JOB}'


def misses(path):
    """The script of `MISSES` below `path`; no two of these ask for the same."""
    return f'local path, run = "{path}", "{time.monotonic_ns()}"\n{MISSES}'


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
    if errors or not requests or not size:
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
    where = [] if "-i" in options else [server.url(path, port)]
    output = run(["h2load", "-t1", "-D", seconds, f"--log-file={log}", *options, *where], seconds + 60)
    used = server.cpu() - before
    total, failed = map(int, re.search(r"requests: (\d+) total.* (\d+) failed", output).groups())
    lines = [line.split() for line in log.read_text().splitlines()]
    if failed or total == 0 or any(status != "200" for _, status, _ in lines):
        raise Failed(f"{server.name}: h2load: {failed} of {total} requests failed\n{output}")
    return used, total, [int(latency) for _, _, latency in lines]
