"""An S3-compatible server on 127.0.0.1, in a process of its own that ends with the one that started it."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

#: One request at a time: the server looks whether there is an object and puts another in two steps.
SERVER = """
import logging, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
logging.getLogger("werkzeug").setLevel(logging.ERROR)
application, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()
def answer(environment, start):
    with turn:
        return list(application(environment, start))
server = make_server("127.0.0.1", 0, answer, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


@dataclass
class Server:
    """Where it is, and what is on it.

    Args:
        endpoint: Its address.
        process: What serves.
    """

    endpoint: str
    process: subprocess.Popen[str]
    names: Iterator[int] = field(default_factory=count)

    def bucket(self) -> str:
        """The name of a bucket that is new and empty."""
        name = f"bucket-{next(self.names)}"
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()
        return name

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


@contextmanager
def serving() -> Iterator[Server]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}", process)
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
