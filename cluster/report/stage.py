"""Stage `report`: the page to look at. Reads what every other stage wrote."""

from __future__ import annotations

from typing import Any

from cluster.report.build import build
from cluster.report.config import ReportConfig
from scale.engine import Workspace


def make(work: Workspace, config: ReportConfig) -> dict[str, Any]:
    return build(work.inputs, work.folder, config)
