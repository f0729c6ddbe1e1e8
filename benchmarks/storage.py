"""What a run on object storage costs beside one in a local folder: `python -m benchmarks.storage RUN.yaml --rounds 3`.

The store is a server on this machine (moto's, in a process of its own), so that what is measured is Balmer's own part
and the server's, and no network: hashing, sending, markers, pointers. Every round makes the whole run twice, in a new
local folder and in a new bucket, after one round that is not counted; then the run is fetched to an empty folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = """
import logging, sys
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def server() -> Iterator[str]:
    """Its address; the environment leads there."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    address = f"http://127.0.0.1:{int(process.stdout.readline())}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_ENDPOINT_URL": address}
    try:
        yield address
    finally:
        process.stdin.close()
        process.wait()


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of this process's cores."""

    wall: float
    cores: float


def cost(work: Callable[[], object]) -> Cost:
    wall, cores = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cores)


def run(run_file: str, folder: str, scratch: Path) -> None:
    from balmer.cli import main

    status = main(["run", run_file, "--quiet", "--folder", folder, "--scratch", str(scratch)])
    if status:
        sys.exit(status)


def fetch_all(url: str, root: Path) -> None:
    from balmer.stages import NAMES
    from scale.storage.mirror import Mirror

    for name in NAMES:
        Mirror(url, root).fetch_stage(name)


def round_of(run_file: str, address: str, number: int) -> dict[str, float]:
    from scale.storage.objects import open_objects

    with tempfile.TemporaryDirectory() as place:
        bucket = f"bench-{number}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/{bucket}", method="PUT")).close()
        url = f"s3://{bucket}/run"
        local = cost(lambda: run(run_file, str(Path(place, "local")), Path(place)))
        stored = cost(lambda: run(run_file, url, Path(place, "scratch")))
        objects = open_objects(url)
        sent, received = objects.traffic.sent, objects.traffic.received
        fetched = cost(lambda: fetch_all(url, Path(place, "elsewhere")))
        return {
            "local: seconds": local.wall,
            "local: core seconds": local.cores,
            "store: seconds": stored.wall,
            "store: core seconds": stored.cores,
            "store: MB sent": sent / 1e6,
            "store: MB received": received / 1e6,
            "store: MB kept": sum(objects.list().values()) / 1e6,
            "store: objects kept": len(objects.list()),
            "fetched elsewhere: seconds": fetched.wall,
            "fetched elsewhere: MB": (objects.traffic.received - received) / 1e6,
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=__doc__.splitlines()[0])
    parser.add_argument("run_file", metavar="RUN.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    known = parser.parse_args()
    with server() as address:
        rounds = [round_of(known.run_file, address, number) for number in range(known.rounds + 1)][1:]
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"{name:<28} {statistics.median(values):10.2f}   ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
