"""devinterp 2.0.1 on a job, through its public functions and at its best settings.

    make EXTRAS=cpu,dev,bench

``sample`` is called once per component, as its own ``susceptibilities`` does, so that the chains of the components and
of the full model can be timed apart; ``compute_susceptibilities`` turns the traces into χ. Choices in its favour: L is
taken on the contexts that the chains are run on, the loss at the trained weights on exactly those and no more than
once per chain, metrics are off, and the observables' batch is the sampler's (it has one batch size for both).
``peer_loss: fused`` passes, through its ``loss_fn``, a loss without the finiteness check over all logits and with a
fused cross entropy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from devinterp.slt.lm_loss import compute_per_token_loss, lm_forward_logits
from devinterp.slt.observables import DeterministicShuffledSampler
from devinterp.slt.sampling import sample
from devinterp.slt.susceptibilities import compute_susceptibilities
from devinterp.slt.weight_restrictions import create_param_masks
from torch.nn import functional

from benchmarks.jobs import Clock, Job, Outcome, folder_bytes

SAMPLERS = {"rmsprop-sgld": "rmsprop_sgld", "sgld": "sgmcmc_sgld"}
OBSERVABLE_SEED = 1337
PER_TOKEN = ("loss_measured", "input_ids_measured")
Loss = Callable[[Any, torch.Tensor], torch.Tensor]


def fused_loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Its forward pass, and cross entropy in one kernel: what a careful user would pass as ``loss_fn``."""
    logits = lm_forward_logits(model, ids)[:, :-1]
    losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view(len(ids), -1)


LOSSES: dict[str, Loss] = {"default": compute_per_token_loss, "fused": fused_loss}


class TimedLoss:
    """A loss that adds up the CPU seconds of the calls without gradients, which are the evaluations."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.seconds = loss, 0.0

    def __call__(self, model: Any, ids: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return self.loss(model, ids)
        started = time.process_time()
        losses = self.loss(model, ids)
        self.seconds += time.process_time() - started
        return losses


def masks(model: Any, component: str) -> dict[str, torch.Tensor | None]:
    """Its masks; the unembedding by its parameter's name, which ``unembed`` misses under transformers 5."""
    if component != "unembed":
        return create_param_masks(model, component)
    matrix = model.get_output_embeddings().weight
    return create_param_masks(model, next(n for n, p in model.named_parameters() if p is matrix))


def as_dataset(ids: np.ndarray) -> Dataset:
    return Dataset.from_dict({"input_ids": ids.tolist()}).with_format("torch")


def settings(job: Job) -> dict[str, Any]:
    return {
        "lr": job.step_size,
        "n_beta": job.nbeta,
        "localization": job.localization,
        "sampling_method": SAMPLERS[job.sampler],
        "num_chains": job.chains,
        "num_draws": job.draws,
        "num_burnin_steps": job.burn_in,
        "num_steps_bw_draws": job.between,
        "batch_size": job.batch,
        "num_init_loss_batches": job.reference // job.batch,
        "init_seed": 1000 * (job.seed + 1),  # chain k takes this plus k: neighbouring seeds would share their chains
        "obs_seed": OBSERVABLE_SEED,
        "device": job.device,
    }


def in_order(values: np.ndarray, contexts: int) -> np.ndarray:
    """Undo the shuffle of an observable's contexts, which lie along the last axis but one."""
    order = DeterministicShuffledSampler(range(contexts), contexts, seed=OBSERVABLE_SEED).indices
    placed = np.empty_like(values)
    placed[..., order, :] = values
    return placed


def run_chains(job: Job, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> tuple[dict[str, Any], Clock]:
    """Every component's DataTree, and the seconds they took."""
    contexts, reference = as_dataset(data[0]), as_dataset(data[1])
    observables = {
        "reference": (reference, job.reference // job.batch),
        "measured": (contexts, job.contexts // job.batch),
    }
    clock, loss, trees = Clock(job.device), TimedLoss(LOSSES[job.peer_loss]), {}
    for name in (*job.components, *(["full"] if job.full else [])):
        place = folder / f"{name.replace(' ', '_')}.zarr"
        with clock.phase("full" if name == "full" else "restricted"):
            trees[name] = sample(
                model=model,
                dataset=reference,
                observables=observables if job.contexts else {},
                param_masks=masks(model, name),
                output_path=place,
                loss_fn=loss if job.device == "cpu" else loss.loss,
                **settings(job),
            )
        if name == job.components[-1] and job.device == "cpu":
            clock.seconds["evaluation"] = loss.seconds
    if job.device == "cpu":
        clock.seconds["sampling"] = clock.seconds["restricted"] - clock.seconds["evaluation"]
    return trees, clock


def susceptibility(job: Job, trees: dict[str, Any]) -> np.ndarray:
    """Its own χ, (tokens, components) in the order of the contexts."""
    found = compute_susceptibilities(trees, "reference", observable_names=["measured"])
    values = found["susceptibilities"]["sus"].values.T  # (components, tokens)
    shaped = values.reshape(len(values), job.contexts, -1)
    return in_order(shaped, job.contexts).reshape(len(values), -1).T


def traces(job: Job, trees: dict[str, Any]) -> dict[str, np.ndarray]:
    """Per component l (chains, draws, contexts, T - 1) in order, and L (chains, draws)."""
    kept: dict[str, np.ndarray] = {}
    for name, tree in trees.items():
        kept[f"{name}/loss"] = in_order(tree.dataset["loss_measured"].values, job.contexts)
        kept[f"{name}/reference"] = tree.dataset["loss_reference"].values.astype(np.float64).mean(axis=(-2, -1))
        kept[f"{name}/trained"] = tree.dataset["init_loss"].values.astype(np.float64).mean()
    return kept


def sizes(job: Job, folder: Path) -> dict[str, int]:
    places = {name: folder / f"{name.replace(' ', '_')}.zarr" for name in (*job.components, "full")}
    full = folder_bytes(places.pop("full"))
    tokens = sum(folder_bytes(place / array) for place in places.values() for array in PER_TOKEN)
    return {"per draw": sum(map(folder_bytes, places.values())) - tokens, "per token": tokens, "full": full}


def run(job: Job, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> Outcome:
    started = time.perf_counter()
    trees, clock = run_chains(job, model, data, folder)
    chi = None
    if job.full:
        with clock.phase("restricted"):
            chi = susceptibility(job, trees)
    return Outcome(
        seconds=clock.seconds,
        wall=time.perf_counter() - started,
        bytes=sizes(job, folder),
        chi=chi,
        traces=traces(job, trees) if job.keep_traces else {},
    )
