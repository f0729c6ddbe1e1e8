"""The demo: a small model shipped with Balmer, and a run file that reads it on Python's own library."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
RUN = HERE / "run.yaml"


def demo_arguments() -> list[str]:
    """The demo as settings: its run file, and where the shipped model lies on this machine."""
    return ["--config", str(RUN), "--model.path", str(MODEL)]
