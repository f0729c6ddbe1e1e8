"""A whole run on a Ray cluster of several nodes: the bytes of the local engine, whatever dies meanwhile."""

import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster
from raylets import add_node, raylets

import warm
from aux.config import AuxConfig
from aux.stage import TARGETS, fit_basis, read_truth, trained
from aux.training import Trained
from balmer.cli import main
from balmer.config import RunConfig
from balmer.provenance import made_from
from balmer.stages import STAGES
from runs import content, write_run_file
from scale.config import ModelConfig, RayConfig
from scale.engine import Engine, LocalEngine
from scale.errors import SetAsideError, UserError
from scale.ray.engine import RayEngine, check_reachable
from scale.ray.work import Work
from scale.store import SHARDS, Manifest, read_manifest

#: Layers that no prediction sees are compared on workers that load the model, all others by all cores of a machine.
#: A training has two threads, on nodes of one core, too.
FLAGS = ["--leakage.layers", "all", "--aux.threads", "2", "--quiet"]
#: Stages whose work is items.
SPREAD = {"taps", "draws", "chi", "upsampled", "clusters", "leakage"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with raylets(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Path:
    """A run carried through by the local engine."""
    place = tmp_path_factory.mktemp("local")
    run_file = write_run_file(place / "run.yaml", place / "out", model_folder, text_folder)
    assert main(["run", str(run_file), *FLAGS]) == 0
    return place / "out"


def test_a_node_killed_in_every_stage(
    cluster: Cluster,
    expected: Path,
    tmp_path: Path,
    model_folder: Path,
    text_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The node of the first item that is handed out in a stage; another takes its place."""
    killed: dict[str, str] = {}
    hand_out, node_died = Work.hand_out, Work.node_died
    lost: list[str] = []

    def and_kill(work: Work) -> None:
        hand_out(work)
        stage = work.logs.relative_to(tmp_path / "out" / "logs").parts[0]
        if work.pool.busy and stage not in killed:
            killed[stage] = next(iter(work.pool.busy.values())).node.name
            node = next(node for node in cluster.list_all_nodes() if node.node_id == killed[stage])
            cluster.remove_node(node, allow_graceful=False)
            add_node(cluster)

    def and_note(work: Work, job, worker, text: str) -> None:
        lost.append(worker.node.name)
        node_died(work, job, worker, text)

    monkeypatch.setattr(Work, "hand_out", and_kill)
    monkeypatch.setattr(Work, "node_died", and_note)
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    assert main(["run", str(run_file), "--engine", "ray", "--address", cluster.address, *FLAGS]) == 0
    assert killed.keys() == SPREAD
    assert set(lost) >= {name for stage, name in killed.items() if stage not in ("upsampled",)}
    shutil.rmtree(tmp_path / "out" / "logs")
    assert content(tmp_path / "out") == content(expected)
    assert len(content(expected)) > 50


def free_cores(total: float) -> bool:
    """Whether all of the cluster's cores are given back, before long."""
    for _ in range(300):
        if ray.available_resources().get("CPU", 0.0) == total:
            return True
        time.sleep(0.1)
    return False


def test_a_driver_killed_leaves_nothing_running_and_is_resumed(
    cluster: Cluster, expected: Path, tmp_path: Path, model_folder: Path, text_folder: Path
) -> None:
    out = tmp_path / "out"
    run_file = write_run_file(tmp_path / "run.yaml", out, model_folder, text_folder)
    until = ["--until", "chi", *FLAGS]
    flags = ["--engine", "ray", "--address", cluster.address, "--ray.workers", "1", *until]
    process = warm.start(["run", str(run_file), *flags], tmp_path / "said")
    shards = out / "draws.part" / SHARDS
    while process.is_alive() and not (shards.is_dir() and any(path.suffix != ".tmp" for path in shards.iterdir())):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "said").read_text(encoding="utf-8")
    assert not (out / "draws").exists()
    finished = {path: path.stat().st_mtime_ns for path in shards.glob("*/loss.npy") if path.parent.suffix != ".tmp"}
    assert finished
    assert free_cores(ray.cluster_resources()["CPU"])
    assert main(["run", str(run_file), *until]) == 0
    assert all((out / "draws" / path.relative_to(out / "draws.part")).stat().st_mtime_ns == then
               for path, then in finished.items())  # fmt: skip
    made = content(out)
    assert {name.split("/")[0] for name in made} == {"corpus", "taps", "draws", "chi"}
    assert made.items() <= content(expected).items()


def test_two_processes_of_ray_train_agree_with_one_to_rounding(
    cluster: Cluster, expected: Path, tmp_path: Path
) -> None:
    chi, taps = expected / "chi", expected / "taps"
    config = AuxConfig(
        epochs=3, expansion=2, batch_size=53, learning_rate=1e-2, validation_share=0.3, accelerator="cpu"
    )
    width = read_manifest(taps).facts["width"]

    def fitted(name: str, engine: Engine, devices: int, epochs: int = 3) -> Trained:
        settings = replace(config, devices=devices, epochs=epochs)
        read_truth(chi, taps, fit_basis(chi, settings), settings, tmp_path / name / TARGETS)
        arguments = {
            "chi": chi, "taps": taps, "stage": tmp_path / name, "name": "kept", "half": None, "config": settings,
            "width": width,
        }  # fmt: skip
        found = engine.together(trained, devices, arguments, tmp_path / name / "together")
        assert not (tmp_path / name / "together").exists()
        return Trained.of(found)

    def weights(found: Trained) -> np.ndarray:
        return np.concatenate([tensor.numpy().ravel() for tensor in found.model.state_dict().values()])

    alone, both = fitted("alone", LocalEngine(), 1), fitted("both", RayEngine(RayConfig(), tmp_path), 2)
    for mine, theirs in zip(both.facts["history"], alone.facts["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=2e-5)
    np.testing.assert_allclose(weights(both), weights(alone), atol=2e-4)
    assert np.abs(weights(fitted("shorter", LocalEngine(), 1, epochs=2)) - weights(alone)).max() > 2e-3
    assert (tmp_path / "both" / "training" / "kept" / "last.ckpt").exists()


def test_items_set_aside_are_named_and_the_status_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> int:
        raise SetAsideError("1 of 4 documents failed 3 times:\n  00002: RuntimeError: why; logs/chi/00002.log")

    monkeypatch.setitem(main.__globals__["COMMANDS"], "run", fail)
    assert main(["run", "x.yaml"]) == 1
    assert capsys.readouterr().err.splitlines()[1] == "  00002: RuntimeError: why; logs/chi/00002.log"


def test_an_address_where_nobody_listens_is_found_out_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(f"127.0.0.1:{port}")
    with pytest.raises(OSError, match="refused"):
        check_reachable(f"127.0.0.1:{port}")
    check_reachable("auto")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"address": "ray://head:10001"}, "ray.address"),
        ({"workers": -1}, "ray.workers"),
        ({"cpus_per_worker": 0.0}, "ray.cpus_per_worker"),
        ({"gpus_per_worker": 1.5}, "ray.gpus_per_worker"),
        ({"attempts": 0}, "ray.attempts"),
        ({"node_deaths": 0}, "ray.node_deaths"),
        ({"patience": 0.0}, "ray.patience"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, float], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}(:| must be)"):
        RayConfig(**settings)


def test_the_number_of_a_gpu_means_nothing_to_workers() -> None:
    with pytest.raises(UserError, match=r"^model.device: cuda:1 is a GPU of one machine"):
        RunConfig(engine="ray", model=ModelConfig(device="cuda:1"))
    assert RunConfig(engine="ray", model=ModelConfig(device="cuda")).model.device == "cuda"
    assert RunConfig(model=ModelConfig(device="cuda:1")).model.device == "cuda:1"


def test_the_engine_is_no_part_of_what_a_stage_is_made_from() -> None:
    here, there = RunConfig(), RunConfig(engine="ray", ray=RayConfig(address="head:6379", workers=7, attempts=9))
    for stage in STAGES:
        inputs = {name: Manifest(name, {}, {}, {}) for name in stage.inputs}
        assert made_from(stage, here, {}, inputs) == made_from(stage, there, {}, inputs)


@pytest.mark.parametrize("gpus", [None, 0.0, 0.25, 1.0, 2.0])
def test_fractions_and_whole_numbers_of_gpus_are_possible(gpus: float | None) -> None:
    assert RayConfig(gpus_per_worker=gpus).gpus_per_worker == gpus
