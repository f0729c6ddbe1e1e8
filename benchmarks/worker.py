"""A process that carries out jobs for one side, so that peak memory is that side's alone.

Reads one job as JSON per line, writes one outcome per line; ends with its input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.jobs import MEBIBYTE, Job, load_model, load_tokens, peak_resident, prepare, resident

SIDES = {
    "ours": "benchmarks.ground_truth.ours",
    "devinterp": "benchmarks.ground_truth.peer_devinterp",
    "plain": "benchmarks.ground_truth.plain",
    "rates": "benchmarks.ground_truth.operations",
}


class Worker:
    """The other end, in the process that measures."""

    def __init__(self, side: str, threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "TQDM_DISABLE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        self.side, command = side, [sys.executable, "-m", "benchmarks.worker", side]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def do(self, job: Job) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(vars(job)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"benchmarks.worker {self.side} ended with status {self.process.wait()}; its error is above"
            )
        return dict(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def read_job(line: str) -> Job:
    fields = json.loads(line)
    return Job(**{**fields, "components": tuple(fields["components"])})


def carry_out(side: Any, job: Job) -> dict[str, Any]:
    """Peak memory beyond what the libraries and the model hold, and in all."""
    import torch

    prepare(job)
    gpu = job.device != "cpu"
    libraries = resident()
    model = load_model(job)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        outcome = side.run(job, model, load_tokens(job), Path(folder))
    if gpu:
        outcome.peak = {"above libraries": torch.cuda.max_memory_allocated() / MEBIBYTE}
    else:
        outcome.peak = {"above libraries": peak_resident() - libraries, "process": peak_resident()}
    return dict(outcome.summary())


def main() -> None:
    side = import_module(SIDES[sys.argv[1]])
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not be taken for an answer
    for line in sys.stdin:
        print(json.dumps(carry_out(side, read_job(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
