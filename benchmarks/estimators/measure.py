"""How reliable the parts of χ are for what they cost, estimator by estimator, and whether they agree.

    python -m benchmarks.estimators [--model demo] [--components l0h1 "l2 mlp" l4h0 embed unembed]
        [--gammas 30 300 3000] [--nbetas 1 10 30 100] [--most 32] [--reference-draws 100] [--out RESULTS.jsonl]

Every estimator is run as in a run, on text of Python's library, in every cell of the grid of γ and nβ. For n draws a
half: the correlation of both halves over tokens, Pearson's and of ranks, and the cost in forward passes of one context,
sampling included (a backward pass counts as two). Each half holds ``--pool`` times as many draws as a context picks;
all of them are paid for. Beside it what a reliability of 0.9 would cost, by Spearman and Brown.

Agreement: the slope of long chains on each estimator, and their correlation, corrected for the noise of both
(`benchmarks.estimators.agreement`), every chain being a repetition. They are SGLD's, plain, unless
``--reference-estimator`` says otherwise: where plain chains say nothing, those of tangent-gradient, which have the same
posterior, may. The estimator of the reference's own kind is the control: where its interval is short it must hold 1.

``--out`` is a file of JSON lines, one for each component of a cell; given again, the command goes on where it stopped.
`benchmarks.estimators.figure` draws it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.estimators.agreement import FEWEST, Agreement, agreement
from benchmarks.estimators.measurement import PARTS, Outcome, Text, all_phi, of_draws, points, repetitions
from benchmarks.estimators.records import Record, Records
from benchmarks.estimators.settings import COSTS, WITHOUT_NBETA, Sizes, held, settings_of
from benchmarks.estimators.table import table
from benchmarks.jobs import folder_of
from benchmarks.texts import text_contexts
from scale.chi.susceptibilities import Sampled, sample_components
from scale.config import ModelConfig, SGLDConfig
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import Component, all_components, select
from scale.model.language_model import LanguageModel, load_language_model
from scale.model.variants import size_of
from scale.store import file_digest

REFERENCE = "reference"
#: What an estimator found of a component, or why it found nothing.
Found = Outcome | str


def is_silent(language_model: LanguageModel, component: Component) -> bool:
    """Whether it is an MLP without weights: nothing was learnt there, and nothing is to be measured."""
    weights = (language_model.parameters[where.parameter] for where in component.slices)
    return component.kind == "mlp" and not any(bool(weight.any()) for weight in weights)


def of_each_kind(language_model: LanguageModel) -> list[str]:
    """The second head of the lowest block, the first of the highest, the middle MLP, embedding and unembedding."""
    last = language_model.architecture.layers - 1
    wanted = ["embed", "l0h1", f"l{(last + 1) // 2} mlp", f"l{last}h0", "unembed"]
    known = {component.name for component in all_components(language_model.model, language_model.architecture)}
    return [name for name in wanted if name in known]


def chosen_components(language_model: LanguageModel, names: Sequence[str]) -> list[Component]:
    wanted = names or of_each_kind(language_model)
    found = select(language_model.model, language_model.architecture, wanted)
    return [component for component in found if not is_silent(language_model, component)]


class Yardstick:
    """Measures the components of one block together; what does not depend on nβ is measured once."""

    def __init__(
        self,
        options: argparse.Namespace,
        language_model: LanguageModel,
        measured: np.ndarray,
        reference: np.ndarray,
        components: Sequence[Component],
    ) -> None:
        self.options, self.language_model, self.components = options, language_model, components
        self.reference, self.sizes = reference, Sizes(len(measured), len(reference))
        self.budget = Budget.of(language_model.device)
        self.text = Text(language_model, measured, components[0].start, self.budget)
        self.known: dict[tuple[SGLDConfig, str], Found] = {}

    def settings(self, gamma: float, nbeta: float) -> dict[str, SGLDConfig]:
        """Of every estimator, and of the long chains if they are wanted; the same for all nβ where it has no say."""
        options, count = self.options, self.sizes.reference
        draws = held(options.most, options.chains, options.pool)
        every = settings_of(gamma, nbeta, options.chains, draws, count)
        found = {name: every[name] for name in options.estimators or every}
        found |= {name: replace(found[name], nbeta=1.0) for name in WITHOUT_NBETA & set(found)}
        if options.reference_draws:
            chains, draws = options.reference_chains, options.reference_draws
            found[REFERENCE] = replace(
                settings_of(gamma, nbeta, chains, draws, count)[options.reference_estimator], seed=1
            )
        return found

    def outcome(self, sampled: Sampled, is_reference: bool) -> Found:
        if sampled.failure:
            return sampled.failure
        ladder = [] if is_reference else points(sampled, self.text, self.sizes, self.options.most, self.options.pool)
        wanted = bool(self.options.reference_draws) and len(sampled.kept) >= FEWEST
        repeated = repetitions(sampled, self.text, self.options.pool) if wanted else {}
        return Outcome(all_phi(sampled), ladder, repeated)

    def drawn(self, settings: SGLDConfig, components: Sequence[Component]) -> Iterator[Sampled]:
        if components:
            made = of_draws(settings)
            for sampled in sample_components(self.language_model, components, self.reference, made, self.budget):
                yield replace(sampled, settings=settings)

    def found(self, name: str, settings: SGLDConfig, components: Sequence[Component]) -> dict[str, Found]:
        """By component; those that are not known yet are sampled together."""
        for sampled in self.drawn(settings, [one for one in components if (settings, one.name) not in self.known]):
            self.known[settings, sampled.component.name] = self.outcome(sampled, name == REFERENCE)
        return {component.name: self.known[settings, component.name] for component in components}

    def records(self, gamma: float, nbeta: float, components: Sequence[Component]) -> Iterator[Record]:
        every = self.settings(gamma, nbeta)
        found = {name: self.found(name, settings, components) for name, settings in every.items()}
        for component in components:
            yield {
                "gamma": gamma,
                "nbeta": nbeta,
                "component": component.name,
                "kind": component.kind,
                "parameters": size_of(component, self.language_model.parameters),
                **rows({name: one[component.name] for name, one in found.items()}, nbeta),
            }
        self.known = {key: one for key, one in self.known.items() if key[0].estimator in WITHOUT_NBETA}


def rows(found: dict[str, Found], nbeta: float) -> dict[str, Any]:
    """A row for each estimator, part and number of draws; one for the agreement of each estimator and part."""
    outcomes = {name: one for name, one in found.items() if isinstance(one, Outcome)}
    failures = {name: one for name, one in found.items() if isinstance(one, str)}
    reference = outcomes.pop(REFERENCE, None)
    ladder: list[Record] = []
    agreements: list[Record] = []
    for name, one in outcomes.items():
        known = {"estimator": name, "tilt": one.tilt(nbeta), "mean_phi": one.mean_phi}
        ladder += [{**known, **asdict(point)} for point in one.points]
        if reference and reference.repetitions and one.repetitions:
            agreements += [{**known, **row} for row in agreement_rows(one, reference)]
    return {"points": ladder, "agreement": agreements, "failures": failures}


def agreement_rows(one: Outcome, reference: Outcome) -> Iterator[Record]:
    for part in PARTS:
        found: Agreement = agreement(one.repetitions[part], reference.repetitions[part])
        yield {"part": part, **asdict(found)}


def fixed_options(options: argparse.Namespace) -> Record:
    """What all records of a file must have in common."""
    names = ("model", "measured", "reference", "context_length", "most", "chains", "pool")
    weights = sorted(Path(folder_of(options.model)).glob("*.safetensors"))
    return {
        **{
            name: getattr(options, name)
            for name in (*names, *(f"reference_{key}" for key in ("draws", "chains", "estimator")))
        },
        "weights": [file_digest(path) for path in weights],
    }


def compare(options: argparse.Namespace) -> Records:
    torch.set_num_threads(options.threads)
    records = Records(options.out, fixed_options(options))
    language_model = load_language_model(ModelConfig(path=folder_of(options.model), device=options.device))
    texts = text_contexts(options.measured + options.reference, options.context_length)
    measured, reference = texts[: options.measured], texts[options.measured :]
    components = chosen_components(language_model, options.components)
    for gamma in options.gammas:
        for _, block in groupby(sorted(components, key=lambda one: one.start), key=lambda one: one.start):
            yardstick = Yardstick(options, language_model, measured, reference, list(block))
            for nbeta in options.nbetas:
                measure(yardstick, records, gamma, nbeta)
        for nbeta in options.nbetas:
            print(f"\n{table(gamma, nbeta, records.cell(gamma, nbeta))}\n", flush=True)
    return records


def measure(yardstick: Yardstick, records: Records, gamma: float, nbeta: float) -> None:
    """What is not there yet of one block in one cell."""
    missing = [one for one in yardstick.components if (gamma, nbeta, one.name) not in records]
    if not missing:
        return
    started = time.perf_counter()
    for record in yardstick.records(gamma, nbeta, missing):
        records.add(record)
    names = ", ".join(component.name for component in missing)
    print(f"γ {gamma:g}, nβ {nbeta:g}: {names}: {time.perf_counter() - started:.0f} s", flush=True)


def check(options: argparse.Namespace) -> None:
    if options.chains < 2 or options.chains % 2:
        raise UserError(f"--chains must be even and at least 2, got {options.chains}")
    if options.reference_draws and min(options.chains, options.reference_chains) < FEWEST:
        raise UserError(f"--chains and --reference-chains must be at least {FEWEST} for intervals of the agreement")
    if options.most < 2:
        raise UserError(f"--most must be at least 2, got {options.most}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="demo, or the folder of a model with its tokenizer")
    parser.add_argument("--components", nargs="+", default=[], help="names or groups (default: a few of each kind)")
    parser.add_argument("--estimators", nargs="+", choices=list(COSTS), default=[], help="default: all")
    parser.add_argument("--gammas", type=float, nargs="+", default=[300.0])
    parser.add_argument("--nbetas", type=float, nargs="+", default=[30.0])
    parser.add_argument("--measured", type=int, default=16, help="contexts, each a document")
    parser.add_argument("--reference", type=int, default=16, help="contexts that L is taken on and chains are run on")
    parser.add_argument("--context-length", type=int, default=128)
    parser.add_argument("--most", type=int, default=32, help="draws a half")
    parser.add_argument("--chains", type=int, default=4, help="of every estimator; half of them are one half")
    parser.add_argument("--pool", type=int, default=2, help="draws that a half holds for each that a context picks")
    parser.add_argument("--reference-draws", type=int, default=0, help="draws of each long chain; 0: none")
    parser.add_argument("--reference-chains", type=int, default=8)
    parser.add_argument("--reference-estimator", choices=list(COSTS), default="plain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="JSON lines; goes on if they are there")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    try:
        check(options)
        compare(options)
    except UserError as error:
        print(f"benchmarks.estimators: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
