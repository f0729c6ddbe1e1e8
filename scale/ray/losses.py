"""Workers that died: alone, or with their node."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import ray

from scale.ray.pool import Worker, living_nodes

#: Seconds within which a cluster has noticed that a node is gone; Ray asks five times, three seconds apart.
NOTICED = 30.0
#: Seconds between two looks.
LOOK = 0.2


@dataclass(frozen=True)
class Loss:
    """A worker that died, and how that was told."""

    worker: Worker
    error: ray.exceptions.RayError
    since: float = field(default_factory=time.monotonic)

    def node_died(self) -> bool | None:
        """Whether it died with its node; None as long as that is not known.

        A node tells of its workers' deaths at once. One that is silent may be gone, and its cluster not know it yet.
        """
        if self.worker.node.name not in {node.name for node in living_nodes()}:
            return True
        told = not isinstance(self.error, ray.exceptions.ActorUnavailableError)
        return False if told or time.monotonic() - self.since > NOTICED else None

    def settled(self) -> bool:
        """The same, waited for."""
        while (found := self.node_died()) is None:
            time.sleep(LOOK)
        return found
