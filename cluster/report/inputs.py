"""The stage folders a report is made from. What a run did not measure is None, and the report says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scale.errors import UserError
from scale.store import read_array, read_manifest

REQUIRED = ("corpus", "upsampled", "clusters")


@dataclass(frozen=True)
class Inputs:
    """Published stage folders by name, and the facts of their manifests."""

    folders: Mapping[str, Path]
    facts: Mapping[str, Mapping[str, Any]]

    def table(self, stage: str, name: str) -> pl.LazyFrame:
        """A table that must be there."""
        return pl.scan_parquet(self._file(stage, f"{name}.parquet"))

    def optional(self, stage: str, name: str) -> pl.LazyFrame | None:
        """A table, or None where the run has no such measurement."""
        if stage not in self.folders or not (self.folders[stage] / f"{name}.parquet").exists():
            return None
        return self.table(stage, name)

    def array(self, stage: str, name: str) -> NDArray[Any]:
        """A memory-mapped array."""
        return read_array(self._file(stage, f"{name}.npy"))

    def recorded(self, key: str) -> Any:
        """The first stage's fact of this name, in the order of the pipeline, or None."""
        found = (facts[key] for facts in self.facts.values() if facts.get(key) is not None)
        return next(found, None)

    def _file(self, stage: str, name: str) -> Path:
        path = self.folders[stage] / name
        if not path.exists():
            raise UserError(f"{path}: missing; run the {stage} stage again")
        return path


def open_inputs(folders: Mapping[str, Path]) -> Inputs:
    """Check that the required stages are there and read every manifest."""
    absent = [stage for stage in REQUIRED if stage not in folders]
    if absent:
        raise UserError(f"the report needs the stages {', '.join(REQUIRED)}: {', '.join(absent)} is not published")
    return Inputs(folders, {stage: read_manifest(folder).facts for stage, folder in folders.items()})


@dataclass(frozen=True)
class Sources:
    """Names of the documents, each once and sorted, and the index of every document's name among them."""

    names: list[str]
    of_document: NDArray[np.int32]


def read_sources(inputs: Inputs) -> Sources:
    """Documents of one name count as one source."""
    documents = inputs.table("corpus", "documents").select("document", "name").collect()
    names, inverse = np.unique(documents["name"].to_numpy().astype(str), return_inverse=True)
    of_document = np.zeros(int(documents["document"].max()) + 1, dtype=np.int32)  # type: ignore[arg-type]
    of_document[documents["document"].to_numpy()] = inverse
    return Sources(names.tolist(), of_document)


@dataclass(frozen=True)
class Vocabulary:
    """Token ids and their text, as the tokeniser decodes each alone."""

    table: pl.DataFrame

    @property
    def size(self) -> int:
        """One more than the largest token id."""
        return int(self.table["token"].max()) + 1  # type: ignore[arg-type]

    def texts(self, tokens: list[int]) -> list[str]:
        """Texts of a few tokens, in their order."""
        wanted = pl.DataFrame({"token": pl.Series(tokens, dtype=self.table.schema["token"])})
        return wanted.join(self.table, on="token", how="left", maintain_order="left")["text"].to_list()


def read_vocabulary(inputs: Inputs) -> Vocabulary:
    """The vocabulary in order of token id."""
    return Vocabulary(inputs.table("corpus", "vocabulary").select("token", "text").sort("token").collect())
