"""Whether the machines of a cluster are alike, and see the run folder: what each says of itself, held side by side."""

from __future__ import annotations

import os
import platform
import socket
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from balmer.folder import LIBRARIES, commit, installed_version
from scale.placement import available_cores, visible_gpus
from scale.storage.objects import is_url

GIB = 2**30
#: Begins the names of files that are there for a moment, to be looked for from other machines.
MARK = ".doctor-"


@dataclass(frozen=True)
class NodeFacts:
    """What one machine says of itself; plain values, so that it can be sent.

    Args:
        host: Its name.
        versions: Of Python, of Balmer with its commit, and of every library.
        gpus: Their names.
        faiss_on_gpu: Whether faiss was built for GPUs.
        cores: That a process may use.
        memory_bytes: Of the machine.
        folder: Why the run folder is of no use there; empty if it is.
    """

    host: str
    versions: Mapping[str, str]
    gpus: tuple[str, ...]
    faiss_on_gpu: bool
    cores: int
    memory_bytes: int
    folder: str = ""


def versions() -> dict[str, str]:
    found = {name: version for name in LIBRARIES if (version := installed_version(name))}
    return {"python": platform.python_version(), "balmer": f"{installed_version('balmer')}, {commit()}", **found}


def folder_access(folder: Path, mark: str) -> str:
    """Whether another machine's mark is seen in a folder, and a file can be written and read; why not, in words."""
    if not folder.is_dir():
        return f"{folder} does not exist here"
    if mark and not (folder / mark).is_file():
        return f"{folder} is another folder here: it does not hold what was written from where the command was given"
    own = folder / f"{MARK}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        own.write_text(own.name, encoding="utf-8")
        return "" if own.read_text(encoding="utf-8") == own.name else f"{folder} does not keep what is written"
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror or error}"
    finally:
        with suppress(OSError):
            own.unlink()


@contextmanager
def marked(folder: Path) -> Iterator[str]:
    """Within, a file lies in the folder, whose name is given, for other machines to look for."""
    mark = folder / f"{MARK}{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark.name
    finally:
        mark.unlink(missing_ok=True)


def node_facts(folder: str, mark: str = "") -> NodeFacts:
    """Of the machine that this is called on; ``mark`` is the name of a file that must be seen in the folder."""
    import torch

    from cluster.faiss_library import library

    return NodeFacts(
        host=socket.gethostname(),
        versions=versions(),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(visible_gpus())),
        faiss_on_gpu=hasattr(library(), "StandardGpuResources"),
        cores=available_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        folder="" if is_url(folder) else folder_access(Path(folder), mark),
    )


def objections(facts: NodeFacts, usual: Mapping[str, str]) -> list[str]:
    """What is wrong with one machine, where others have these versions."""
    names = sorted(set(usual) | set(facts.versions))
    other = [
        f"{name} {facts.versions.get(name, 'missing')}, elsewhere {usual.get(name, 'missing')}"
        for name in names
        if facts.versions.get(name) != usual.get(name)
    ]
    found = ["; ".join(other)] if other else []
    if facts.gpus and not facts.faiss_on_gpu:
        found.append("faiss without GPU support; pip install '.[gpu]'")
    return [*found, facts.folder] if facts.folder else found


def usual_versions(facts: Mapping[str, NodeFacts]) -> dict[str, str]:
    """Of everything, what most machines have; of as many each, what the first of them has."""
    names = dict.fromkeys(name for one in facts.values() for name in one.versions)
    counted = {name: Counter(one.versions.get(name, "missing") for one in facts.values()) for name in names}
    chosen = {name: counts.most_common(1)[0][0] for name, counts in counted.items()}
    return {name: version for name, version in chosen.items() if version != "missing"}


def described(facts: NodeFacts) -> str:
    names = Counter(facts.gpus)
    gpus = ", ".join(f"{count} x {name}" for name, count in names.items()) or "no GPU"
    return f"{facts.host}: {facts.cores} cores, {facts.memory_bytes / GIB:.0f} GiB, {gpus}"


def judged(facts: Mapping[str, NodeFacts]) -> list[tuple[str, str, bool]]:
    """A line for every machine, by its name in the cluster: what it is, what is wrong, and whether it will do."""
    usual = usual_versions(facts)
    lines = []
    for name, one in facts.items():
        wrong = objections(one, usual)
        lines.append((name, "; ".join([described(one), *wrong]), not wrong))
    return lines
