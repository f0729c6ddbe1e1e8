"""The run in numbers: what was measured, what was found, and how far to believe it. None where it was not measured."""

from typing import Any

import polars as pl

from cluster.report.inputs import Inputs
from cluster.report.numbers import rounded
from cluster.report.verdict import Verdict, leakage_verdict

# Facts of the clusters stage that the report repeats.
SEARCH_FACTS = ("clustered_share", "max_conductance", "expected_false", "recall", "epsilon", "alpha", "k")


def describe_run(inputs: Inputs) -> dict[str, Any]:
    """Model, corpus, tokens, components, draws."""
    contexts = inputs.table("corpus", "contexts").group_by("split").len().sort("split").collect()
    length = inputs.array("corpus", "tokens").shape[1]
    return {
        "model": inputs.recorded("model"),
        "corpus": inputs.recorded("corpus"),
        "documents": inputs.table("corpus", "documents").select(pl.len()).collect().item(),
        "context_tokens": length,
        "tokens": int(contexts["len"].sum()) * length,
        "tokens_by_split": {split: count * length for split, count in contexts.iter_rows()},
        "clustered_rows": inputs.table("upsampled", "rows").select(pl.len()).collect().item(),
        "layers": inputs.recorded("layers"),
        "compute": inputs.facts.get("chi", {}).get("compute"),
    }


def describe_components(inputs: Inputs) -> dict[str, Any] | None:
    """How many components were measured, with how many draws, and how reliably what is predicted of them."""
    lazy = inputs.optional("chi", "components")
    if lazy is None:
        return None
    table = lazy.collect()
    kinds = table.group_by("kind", maintain_order=True).len()
    draws, estimator = pl.col("draws"), inputs.facts.get("aux", {}).get("estimator")
    reliability = pl.col("reliability_covariance" if estimator == "covariance" else "reliability")
    return {
        "names": table["component"].to_list(),
        "kinds": table["kind"].to_list(),
        "layers": table["layer"].to_list(),
        "heads": table["head"].to_list(),
        "by_kind": dict(kinds.iter_rows()),
        "draws": [_number(table, statistic) for statistic in (draws.min(), draws.max())],
        "duplicates": inputs.facts["chi"].get("duplicates", 0),
        "excluded_chains": _number(table, pl.col("excluded_chains").sum()),
        "reliability": [_number(table, statistic) for statistic in _range(reliability)],
    }


def describe_clusters(inputs: Inputs, clusters: pl.DataFrame) -> dict[str, Any]:
    """How many clusters, how large, how tight, and what the search would have found in structureless data."""
    facts = inputs.facts["clusters"]
    return {
        "count": len(clusters),
        "members": _number(clusters, pl.col("size").sum()),
        "sizes": [_number(clusters, statistic) for statistic in _range(pl.col("size"))],
        "conductances": [_number(clusters, statistic) for statistic in _range(pl.col("conductance"))],
    } | {key: rounded(facts.get(key)) for key in SEARCH_FACTS}


def describe_accuracy(inputs: Inputs) -> dict[str, Any] | None:
    """Mean Pearson correlations of the auxiliary model, the ridge regression and the noise ceiling over the PCs."""
    lazy = inputs.optional("aux", "accuracy")
    if lazy is None:
        return None
    table = lazy.collect().with_columns(pl.col(pl.Float64).fill_nan(None))
    pearson, ceiling = _number(table, pl.col("pearson").mean()), _number(table, pl.col("ceiling").mean())
    compared = table.filter(pl.col("pearson").is_not_null() & pl.col("ridge_pearson").is_not_null())
    return {
        "pcs": len(table),
        "pearson": pearson,
        "ridge": _number(table, pl.col("ridge_pearson").mean()),
        "ceiling": ceiling,
        "shared": _number(table, pl.col("pearson_shared").mean()),
        "of_ceiling": rounded(pearson / ceiling) if pearson is not None and ceiling else None,
        "above_ridge": compared.filter(pl.col("pearson") > pl.col("ridge_pearson")).height,
        "compared_with_ridge": len(compared),
    }


def describe_support(clusters: pl.DataFrame, level: float) -> dict[str, Any]:
    """How many clusters could be tested on held-out ground truth, and how many passed."""
    tested = clusters.filter(pl.col("p_corrected").is_not_null())
    supported = int(tested["supported"].sum())
    return {
        "level": level,
        "tested": len(tested),
        "supported": supported,
        "untested": len(clusters) - len(tested),
        "share": rounded(supported / len(tested)) if len(tested) else None,
    }


def describe_leakage(inputs: Inputs) -> Verdict:
    """The verdict on leakage."""
    return leakage_verdict(inputs.facts.get("leakage", {}).get("verdict"))


def _range(column: pl.Expr) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Smallest, median, largest."""
    return column.min(), column.median(), column.max()


def _number(table: pl.DataFrame, statistic: pl.Expr) -> Any:
    """One statistic of a table as a rounded number."""
    return rounded(table.select(statistic).item())
