"""The recipes for clusters, as text: that shells and parsers read them, and that every option in them exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from balmer.cli import COMMANDS, run_options
from balmer.config import RunConfig
from balmer.runfile import SHORT, keys_of

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "cluster"
SCRIPTS = sorted([*RECIPES.glob("*.sh"), *RECIPES.glob("*.sbatch")])


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def joined(path: Path) -> list[str]:
    """Lines of a script without comments, those that go on with a backslash joined."""
    whole = text(path).replace("\\\n", " ")
    return [line for line in whole.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def uses(command: str) -> list[tuple[str, str]]:
    """Every place where a recipe or the page gives this command: where, and its words."""
    page = [line.strip() for line in text(ROOT / "docs" / "cluster.md").splitlines() if line.startswith("    ")]
    lines = [(path.name, line) for path in SCRIPTS for line in joined(path) if "usage: " not in line]
    lines += [("cluster.md", re.split(r"\s{3,}", line)[0]) for line in page]
    lines += [("rayjob.yaml", job()["spec"]["entrypoint"])]
    pattern = re.compile(rf"(?:^|[\s/'\"])({command}'? [a-z].*)")
    return [
        (where, match[1].replace(f"{command}'", command)) for where, line in lines if (match := pattern.search(line))
    ]


def options(words: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][\w.-]*", words)


def job() -> Any:
    return yaml.safe_load(text(RECIPES / "rayjob.yaml"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_reads_it(script: Path) -> None:
    found = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert "set -euo pipefail" in text(script)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_without_a_run_file_it_says_how_it_is_used(script: Path) -> None:
    found = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False, env={"PATH": "/bin"})
    assert found.returncode != 0
    assert "usage: " in found.stderr


@pytest.mark.parametrize(("where", "words"), uses("balmer"))
def test_balmer_has_every_option(where: str, words: str) -> None:
    command = shlex.split(words)[1]
    assert command in COMMANDS, words
    known = {f"--{key}" for key in keys_of(RunConfig)}
    known |= {option for action in run_options("balmer run", "", True)._actions for option in action.option_strings}
    if command == "plan":
        from balmer.planning.options import options as plan_options

        known |= {option for action in plan_options()._actions for option in action.option_strings}
    assert set(options(words)) <= known | set(SHORT), (where, set(options(words)) - known)


def test_options_are_found_in_every_recipe() -> None:
    """Or the tests above would pass on nothing."""
    assert {"balmer.sbatch", "ssh.sh", "rayjob.yaml", "cluster.md"} == {where for where, _ in uses("balmer")}
    assert {"balmer.sbatch", "ssh.sh"} == {where for where, _ in uses("ray")}
    assert options("balmer run x --engine ray --address auto") == ["--engine", "--address"]


def ray_options(command: str) -> set[str]:
    scripts = pytest.importorskip("ray.scripts.scripts")
    return {option for parameter in scripts.cli.commands[command].params for option in parameter.opts}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("where", "words"), uses("ray"))
def test_ray_has_every_option(where: str, words: str) -> None:
    command = words.split()[1]
    assert command in ("start", "status"), words
    own = options(words.split(">")[0])
    # `start` of the sbatch file is given the rest by its callers.
    given = own + [
        option for line in joined(RECIPES / where) if line.strip().startswith("start ") for option in options(line)
    ]
    assert given
    assert set(given) <= ray_options(command) | (ray_options("start") if command == "status" else set())


@pytest.mark.filterwarnings("ignore")
def test_the_job_is_what_kuberay_asks_for() -> None:
    spec = job()["spec"]
    assert (job()["apiVersion"], job()["kind"]) == ("ray.io/v1", "RayJob")
    assert set(spec) == {
        "entrypoint",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "backoffLimit",
        "rayClusterSpec",
    }
    cluster = spec["rayClusterSpec"]
    version = re.search(r"^ray==(\S+)$", text(ROOT / "constraints.txt"), re.MULTILINE)
    assert version is None or cluster["rayVersion"] == version[1]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert {f"--{name}" for name in group["rayStartParams"]} <= ray_options("start")
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert any(mount["mountPath"] == "/runs" for mount in container["volumeMounts"])
            assert container["image"] == "REGISTRY/balmer"
    assert spec["entrypoint"].split()[2].startswith("/runs/")
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_dashboards_listen_to_this_machine_alone_unless_kubernetes_needs_them() -> None:
    for script in SCRIPTS:
        heads = [line for line in joined(script) if "--head " in line]
        assert heads
        assert all("--dashboard-host=127.0.0.1" in line for line in heads)


def test_every_path_that_is_named_exists() -> None:
    page = ROOT / "docs" / "cluster.md"
    linked = re.findall(r"\]\(([^)#]+)\)", text(page))
    assert {"cluster/balmer.sbatch", "cluster/rayjob.yaml", "cluster/ssh.sh"} <= set(linked)
    assert all((page.parent / name).is_file() for name in linked)
    named = {
        name for path in [page, *RECIPES.iterdir()] for name in re.findall(r"\b(?:docs|tests)/[\w./-]*\w", text(path))
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_image_installs_extras_that_there_are() -> None:
    import tomllib

    extras = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    for path in (RECIPES / "Dockerfile", ROOT / "docs" / "cluster.md"):
        asked = re.findall(r"'\.\[([\w,]+)\]'", text(path))
        assert asked
        assert {name for names in asked for name in names.split(",")} <= set(extras)
    assert (ROOT / "constraints.txt").is_file() or "constraints.txt" not in text(RECIPES / "Dockerfile")
