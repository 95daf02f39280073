#!/usr/bin/env python3
"""Real applications behind the built binary: `run.py BINARY [NAME…]`, NAME is the beginning of an app's name.

1. Each app is one of its framework's own kind, in its own language, with sessions in a Redis of its own (`apps/`).
2. sidegate's configuration is what README tells the operator of such an app to write (`cases.py`), and no more.
3. The same story is played in front of all of them (`story.py`); the steps stand in the table.
4. What an app needs is installed once into a folder (`--scratch`, kept) from PyPI and npm, or on the machine from Debian.
5. Whatever was started is stopped at the end. Any step that fails ends its app's story, and the run with status 1.

Python's own library is all that this needs, besides redis-server 7 and node.
"""

import argparse
import contextlib
import http.client
import pathlib
import sys
import tempfile
import traceback

from cases import chosen
from places import Failed, Plain, Process, Redis, Sidegate, free_port
from story import STEPS, Story


def play(case, binary, scratch, directory, done):
    """Plays the story in front of one app; notes in `done` what became of each step."""
    folder = case.needs.install(scratch)
    with contextlib.ExitStack() as started:

        def start(place):
            started.callback(place.stop)
            return place.start()

        redis, plain, port = start(Redis(directory)), start(Plain()), free_port()
        environment = {"PORT": str(port), "REDIS_PORT": str(redis.port), "SESSION_SECRET": case.secret}
        app = start(Process("app", directory, case.command(folder, port, redis.port), port, environment | case.environment))
        ports = {"redis": redis.port, "app": app.port, "plain": plain.port}
        session = "\n".join(case.session)
        sidegate = start(Sidegate(binary, directory, session, ports, {"SESSION_SECRET": case.secret}))
        sidegate.ready()
        story = Story(app, sidegate, redis, case.carrier)
        for step in STEPS:
            done[step] = "FAILED"
            done[step] = getattr(story, f"step_{step}")() or "ok"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--scratch", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "sidegate-frameworks")
    options = arguments.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    rows, failures = [["app", *STEPS, "versions"]], []
    for case in chosen(options.names):
        print(f"{case.name} …", file=sys.stderr, flush=True)
        done = {}
        with tempfile.TemporaryDirectory(dir=options.scratch, prefix=f"{case.name}-") as directory:
            try:
                play(case, options.binary.resolve(), options.scratch, pathlib.Path(directory), done)
            except Failed as failed:
                failures.append(f"{case.name}: {failed}{last_words(directory)}")
            except (OSError, KeyError, ValueError, http.client.HTTPException):
                failures.append(f"{case.name}: {traceback.format_exc()}{last_words(directory)}")
        rows.append([case.name, *(done.get(step, "not run") for step in STEPS), case.versions])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for failure in failures:
        print(f"\n{failure}")
    print(f"\n{len(rows) - 1 - len(failures)} of {len(rows) - 1} apps are served as they should be")
    return 1 if failures else 0


def last_words(directory):
    """What the app and sidegate said at last."""
    logs = [pathlib.Path(directory) / f"{name}.log" for name in ("app", "sidegate")]
    return "".join(f"\n--- {log.stem}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists())


if __name__ == "__main__":
    sys.exit(main())
