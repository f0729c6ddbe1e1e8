"""The report of a run on 127.0.0.1, for machines without a screen."""

from __future__ import annotations

import getpass
import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    """Files of one folder, without a line for each of them, and without lists of folders."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def list_directory(self, path: object) -> None:
        self.send_error(404, "no such file")


def open_server(report: Path, port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1 alone; port 0 takes one that is free."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(report)))


def serve_lines(port: int) -> list[str]:
    """Where the report is, and how to come there from another machine."""
    return [
        f"Report: http://127.0.0.1:{port}/index.html  (Ctrl-C ends)",
        f"From another machine: ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.getfqdn()}",
    ]


def serve(report: Path, port: int) -> None:
    """Serve until interrupted."""
    with open_server(report, port) as server:
        print("\n".join(serve_lines(server.server_address[1])), flush=True)
        server.serve_forever()
