"""What can be read off short correlated series: (chains, length), or several of them along the axes before."""

from __future__ import annotations

import numpy as np

#: Sokal's window: correlations are summed until the lag is this many times the sum.
WINDOW = 5


def second_half(series: np.ndarray) -> np.ndarray:
    """Of series along the last axis."""
    return series[..., series.shape[-1] // 2 :]


def within(series: np.ndarray) -> np.ndarray:
    """Every chain about its own mean."""
    return series - series.mean(axis=-1, keepdims=True)


def autocorrelation_time(series: np.ndarray) -> float:
    """1 + 2 Σ ρ(t) of stationary series (..., chains, length): how many steps make one independent sample.

    Covariances are pooled over everything but time; the variance between chains makes up for what centring a short
    chain takes away, as in R-hat. Summed up to the first that is not positive or Sokal's window. Never below 1; NaN if
    nothing varies.
    """
    means = series.mean(axis=-1)
    between = float(means.var(axis=-1, ddof=1).mean()) if series.shape[-2] > 1 else 0.0
    centred = within(series)
    variance = float(np.square(centred).mean()) + between
    if variance == 0:
        return float("nan")
    total = 1.0
    for lag in range(1, series.shape[-1]):
        correlation = (float((centred[..., lag:] * centred[..., :-lag]).mean()) + between) / variance
        if correlation <= 0 or lag > WINDOW * total:
            break
        total += 2 * correlation
    return total


def standard_error(series: np.ndarray) -> float:
    """Of the mean of all of (chains, length), correlation in time allowed for."""
    if np.ptp(series) == 0:
        return 0.0
    return float(np.sqrt(series.var(ddof=1) * autocorrelation_time(series) / series.size))


def gap(series: np.ndarray) -> float:
    """How far a chain's mean is from that of the others, in standard errors known from within the chains alone.

    About its own mean a chain of n steps shows 1 - τ/n of its variance, and about as much of its autocorrelation time.
    """
    chains, length = series.shape
    rest = within(series)
    if np.ptp(rest) == 0:
        return float("inf" if np.ptp(series) > 0 else "nan")
    time = autocorrelation_time(rest)
    seen = max(0.0, 1 - time / length)
    error = np.sqrt(np.square(rest).mean() * time / length * chains / (chains - 1))
    means = series.mean(axis=1)
    others = (means.sum() - means) / (chains - 1)
    return float(np.abs(means - others).max() * seen / error)


def drift(series: np.ndarray) -> tuple[float, float]:
    """Change of (chains, length) from end to end along the mean fitted line, and its standard error."""
    chains, length = series.shape
    time = np.arange(length) - (length - 1) / 2
    slopes = series @ time / (time @ time)
    rest = within(series) - slopes[:, None] * time
    correlated = autocorrelation_time(rest) if np.ptp(rest) > 0 else 1.0
    variance = float(np.square(rest).sum()) / max(1, rest.size - 2 * chains)
    error = np.sqrt(variance * correlated / (time @ time * chains))
    return float(slopes.mean()) * (length - 1), float(error) * (length - 1)


def largest_jump(series: np.ndarray) -> float:
    """The largest change from one entry of (chains, length) to the next, in typical (median) ones."""
    jumps = np.abs(np.diff(series, axis=-1))
    largest, typical = float(jumps.max()), float(np.median(jumps))
    return largest / typical if typical > 0 else float("inf" if largest > 0 else "nan")
