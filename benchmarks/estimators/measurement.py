"""One estimator measured on text: both halves at more and more draws, and every chain as a repetition of its own.

Each context is a document: it picks its own random draws, and has its own whatever else an estimator draws afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.estimators.settings import COSTS, Sizes, held, ladder
from scale.chi.estimate import Parts
from scale.chi.gradient_probe import source
from scale.chi.probe import HALVES, Source, trained_losses
from scale.chi.susceptibilities import Sampled
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import Draws
from scale.draws.gaussian import TINY
from scale.model.batches import Budget
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail

#: Reliability at which costs are compared.
WANTED = 0.9
MEAN = "mean-gradient"
PARTS = ("covariance", "shift")
#: Values of both parts.
Measured = dict[str, np.ndarray]


@dataclass(frozen=True)
class Point:
    """One part at some draws a half; the correlations of both halves over tokens, Pearson's and of ranks.

    ``cost`` was spent on it, and ``cost_wanted`` is what a correlation of 0.9 would cost, by Spearman and Brown: None
    where the halves do not correlate.
    """

    part: str
    draws: int
    cost: float
    pearson: float
    rank: float
    cost_wanted: float | None


@dataclass(frozen=True)
class Outcome:
    """What an estimator says of one component.

    ``phi`` is L(w) - L(w*) at all of its draws; ``repetitions`` are (chains, contexts, tokens) of either part.
    """

    phi: np.ndarray
    points: list[Point]
    repetitions: Measured

    @property
    def mean_phi(self) -> float:
        return float(self.phi.mean())

    def tilt(self, nbeta: float) -> float:
        """nβ sd(φ): how far the loss bends the posterior away from N(w*, I/γ)."""
        return nbeta * float(self.phi.std())


class Text:
    """The contexts to be measured, each a document, with what the components of one block read in them."""

    def __init__(self, language_model: LanguageModel, contexts: np.ndarray, start: int, budget: Budget) -> None:
        tokens = torch.from_numpy(contexts).to(language_model.device)
        every = Tail.at(language_model, tokens, start, budget)
        self.budget = budget
        self.tails = [every.subset(torch.tensor([i], device=tokens.device)) for i in range(len(tokens))]
        self.baselines = [trained_losses(tail) for tail in self.tails]

    def measured(self, source: Source, half: int, settings: ProbeConfig) -> Measured:
        """(contexts, tokens) of either part."""
        found = [self.document(source, half, index, settings) for index in range(len(self.tails))]
        return {part: np.stack([getattr(one, part) for one in found]) for part in PARTS}

    def document(self, source: Source, half: int, index: int, settings: ProbeConfig) -> Parts:
        return source.parts(self.tails[index], half, index, self.baselines[index], settings, self.budget)


def cut(chains: Sequence[Draws], draws: int) -> list[Draws]:
    """Their first draws, as if no more had been made."""
    found = []
    for chain in chains:
        rows = len(chain.offsets) // len(chain.loss) * draws  # of one draw there may be several
        found.append(Draws(chain.offsets[:rows], chain.loss[:draws], chain.trace[:draws]))
    return found


def of_draws(settings: SGLDConfig) -> SGLDConfig:
    """What is drawn, for estimators that keep every draw or only their mean: every draw, so that few can be taken."""
    return replace(settings, estimator="gaussian-gradient") if settings.estimator == MEAN else settings


def with_mean(chain: Draws) -> Draws:
    """The mean of a chain's directions in their place, as `scale.draws.mean_gradient` keeps it."""
    rows = np.asarray(chain.offsets, np.float64)
    pairs = (chain.trace[:, None] * rows).reshape(-1, 2, rows.shape[1]).mean(axis=1) / rows.shape[1] ** 0.5
    mean = pairs.mean(axis=0)
    lengths = np.linalg.norm([mean, *pairs], axis=1)
    unit = mean * (len(mean) ** 0.5 / max(lengths[0], TINY))
    return Draws(unit[None].astype(np.float32), chain.loss, lengths)


def as_kept(chains: Sequence[Draws], settings: SGLDConfig) -> list[Draws]:
    return [with_mean(chain) for chain in chains] if settings.estimator == MEAN else list(chains)


def shortened(sampled: Sampled, draws: int) -> Source:
    halves = [as_kept(cut(sampled.usable(half), draws), sampled.settings) for half in range(HALVES)]
    numbers = sampled.numbers(0), sampled.numbers(1)
    settings = replace(sampled.settings, draws=draws)
    return source(sampled.component, (halves[0], halves[1]), numbers, sampled.trained_loss, settings)


def alone(sampled: Sampled, half: int, index: int) -> Source:
    """One chain as a source of its own, whose halves are the same."""
    chains, numbers = as_kept([sampled.usable(half)[index]], sampled.settings), [sampled.numbers(half)[index]]
    return source(sampled.component, (chains, chains), (numbers, numbers), sampled.trained_loss, sampled.settings)


def points(sampled: Sampled, text: Text, sizes: Sizes, most: int, pool: int) -> list[Point]:
    found = []
    for picked in ladder(most):
        settings = replace(sampled.settings, draws=held(picked, sampled.settings.chains, pool))
        one, probe = shortened(sampled, settings.draws), ProbeConfig(draws_per_document=HALVES * picked)
        halves = [text.measured(one, half, probe) for half in range(HALVES)]
        spent = COSTS[settings.estimator](settings, picked, sizes)
        found += [point(part, picked, spent, np.stack([half[part].ravel() for half in halves])) for part in PARTS]
    return found


def point(part: str, picked: int, spent: float, halves: np.ndarray) -> Point:
    """``halves`` (2, tokens)."""
    pearson, rank = float(np.corrcoef(*halves)[0, 1]), float(spearmanr(*halves).statistic)
    wanted = spent * WANTED / (1 - WANTED) * (1 - pearson) / pearson if pearson > 0 else None
    return Point(part, picked, spent, pearson, rank, wanted)


def repetitions(sampled: Sampled, text: Text, pool: int) -> Measured:
    """Every chain that has not diverged, as a measurement of its own; what it draws afresh is its own too."""
    picked = max(2, sampled.settings.draws // pool // 2 * 2)
    found = []
    for half in range(HALVES):
        for index, number in enumerate(sampled.numbers(half)):
            probe = ProbeConfig(draws_per_document=HALVES * picked, seed=1 + number)
            found.append(text.measured(alone(sampled, half, index), 0, probe))
    return {part: np.stack([one[part] for one in found]) for part in PARTS}


def all_phi(sampled: Sampled) -> np.ndarray:
    found: np.ndarray = np.concatenate([half.ravel() for half in sampled.pool().phi])
    return found
