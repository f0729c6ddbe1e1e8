"""A Ray cluster of several nodes on this machine: a raylet each, with cores that are there in name alone."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

#: The least that Ray accepts, and all that items need.
STORE = 78 * 2**20
#: Nodes that die are noticed within seconds. Workers are as urgent as what else the processors do: by default they give
#: way to it, and would stand still beside other tests.
SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "300",
}


def add_node(cluster: Cluster, cpus: int = 1) -> Any:
    """Without what a node has for its dashboard and its logs, which takes as long to start as all else."""
    with pytest.MonkeyPatch.context() as only_now:
        only_now.setattr(ray._private.utils, "get_dashboard_dependency_error", lambda: ImportError("left out"))
        return cluster.add_node(
            num_cpus=cpus, object_store_memory=STORE, include_dashboard=False, include_log_monitor=False
        )


@contextmanager
def raylets(nodes: int) -> Iterator[Cluster]:
    """So many nodes of a core each, and this process connected to them; the head node has no core. Their workers find
    what the tests find."""
    found = [*sys.path, os.environ.get("PYTHONPATH", "")]
    changes = {"PYTHONPATH": os.pathsep.join(filter(None, found)), **SETTINGS}
    with pytest.MonkeyPatch.context() as only_now:
        for name, value in changes.items():
            only_now.setenv(name, value)
        yield from started(nodes)


def started(nodes: int) -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        add_node(cluster, cpus=0)
        for _ in range(nodes):
            add_node(cluster)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
