"""Rows about limits: what they cost the proxy, and what they cost Redis.

1. What a limit adds is told by the same server without one, on a path of the same form, in the same round. They take
   turns of a second (plain, limited, limited, plain): what drifts falls on both. A round has as many of these as it has
   seconds, and its figure is their median.
2. Exact means that Redis was asked for every request; a run where it was not ends.
3. What Redis uses is its process's CPU time, reading and writing included, for each request that passed. `script` is what
   Redis itself says of a call.
"""

import statistics

from load import h2load, micros_per_request, wrk
from subjects import Failed

HOT_RATE, HOT_CLIENTS = 5000, 20


def added(server, options, path):
    seen = []
    for _ in range(options.seconds):
        turns = ("/plain/1k", path, path, "/plain/1k")
        first, second, third, fourth = (micros_per_request(server, 1, turn)["cpu"] for turn in turns)
        seen.append(((second + third) / (first + fourth) - 1) * 100)
    return {"added": statistics.median(seen)}


def in_memory_limit(server, options):
    return added(server, options, "/limited/1k")


def leased_limit(server, options):
    server.expect("/leased/1k", 1024, X_RateLimit_Limit="6000000")
    return added(server, options, "/leased/1k")


def in_redis(server, options, path):
    """CPU of the proxy and of Redis for each request, in µs; and what Redis was asked."""
    server.expect(path, 1024, X_RateLimit_Limit="6000000")
    redis = server.redis
    before, (calls_before, micros_before) = redis.cpu(), redis.decisions()
    used, requests, _, _ = wrk(server, options.seconds, path)
    calls, micros = redis.decisions()
    calls, micros = calls - calls_before, micros - micros_before
    return {"cpu": used * 1e6 / requests, "redis": (redis.cpu() - before) * 1e6 / requests,
            "calls": calls / requests, "script": micros / max(calls, 1)}


def exact_limit(server, options):
    figures = in_redis(server, options, "/exact/1k")
    if figures["calls"] < 0.999:
        raise Failed(f"{server.name}: {figures['calls']:.3f} decisions of Redis for each request, and it should be exact")
    return figures


def redis_exact(server, options):
    figures = exact_limit(server, options)
    return {"redis": figures.pop("redis")} | figures


def redis_leased(server, options):
    figures = in_redis(server, options, "/leased/1k")
    return {"redis": figures.pop("redis")} | figures


def leased_calls(server, options):
    before, _ = server.redis.decisions()
    _, requests, _ = h2load(
        server, options.seconds, "--h1", f"-c{HOT_CLIENTS}", f"--rps={HOT_RATE // HOT_CLIENTS}", path="/leased/1k")
    if requests < HOT_RATE * options.seconds * 0.9 and not options.smoke:
        raise Failed(f"{server.name}: {requests} requests in {options.seconds} s, not {HOT_RATE} a second")
    return {"calls": (server.redis.decisions()[0] - before) / requests}
