"""The command line in a process of its own, forked from one that has imported everything.

A run that is killed and begun again many times would spend nearly all of its time on imports. What is forked is a
process like any other: it has its own memory, and SIGKILL ends it wherever it is.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from balmer.stages import STAGES

#: Threads are started in the forked process alone; with one there are none to start.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
MODULES = ["balmer.cli", "balmer.runner", "transformers.models.gpt_neox.modeling_gpt_neox", "lightning.pytorch"]


def command_line(arguments: list[str], said: Path) -> None:
    """In the new process: what the `balmer` command would do, standard error kept in a file."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    from balmer.cli import main

    sys.exit(main(arguments))


def start(arguments: list[str], said: Path) -> ForkServerProcess:
    os.environ.update(ONE_THREAD)  # read by the server, which the first call starts
    context = get_context("forkserver")
    context.set_forkserver_preload([*MODULES, *(stage.maker for stage in STAGES)])
    process = context.Process(target=command_line, args=(arguments, said))
    process.start()
    return process
