"""The command line in a process of its own, forked from one that has imported everything.

A run that is killed and begun again many times would spend nearly all of its time on imports. What is forked is a
process like any other: it has its own memory, and SIGKILL ends it wherever it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from balmer.stages import STAGES

#: Threads are started in the forked process alone; with one there are none to start.
ONE_THREAD = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
MODULES = ["balmer.cli", "balmer.runner", "transformers.models.gpt_neox.modeling_gpt_neox", "lightning.pytorch"]
#: Version of the kernel's interface, and the capabilities that let root through whatever a file's mode says.
CAPABILITIES, DAC_OVERRIDE, DAC_READ_SEARCH = 0x20080522, 1, 2


def nothing() -> None:
    pass


def bound_by_modes() -> None:
    """From here on modes bind this process as they bind anyone: root is let through by capability, and gives it up."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    for call in (library.capget, library.capset):
        for kind in (0, 1):  # those in effect, and those it could take
            sets[kind] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
        if call(header, sets) != 0:
            raise OSError(ctypes.get_errno(), "capabilities")


def listening_to_ctrl_c() -> None:
    """A shell's background job ignores it, and so would everything it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def in_new_process(
    function: Callable[..., Any], arguments: tuple[Any, ...], said: Path, before: Callable[[], None]
) -> None:
    """In the new process: what it writes to standard error is kept in a file."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    before()
    sys.exit(function(*arguments))


def command_line(arguments: list[str]) -> int:
    """What the `balmer` command would do."""
    from balmer.cli import main

    return main(arguments)


def call(
    function: Callable[..., Any], *arguments: Any, said: Path, before: Callable[[], None] = nothing
) -> ForkServerProcess:
    """Call a function in a new process."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*MODULES, *(stage.maker for stage in STAGES)])
    with pytest.MonkeyPatch.context() as only_there:  # the server keeps the environment that it is started in
        for name in ONE_THREAD:
            only_there.setenv(name, "1")
        forkserver.ensure_running()
    process = context.Process(target=in_new_process, args=(function, arguments, said, before))
    process.start()
    return process


def start(arguments: list[str], said: Path, before: Callable[[], None] = nothing) -> ForkServerProcess:
    """The command line."""
    return call(command_line, arguments, said=said, before=before)
