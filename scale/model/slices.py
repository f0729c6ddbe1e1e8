"""Parts of parameters: what a component is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Slice:
    """``parameter[start:stop]`` along ``axis``; the whole parameter if ``axis`` is None."""

    parameter: str
    axis: int | None = None
    start: int = 0
    stop: int = 0


def within(module: str, pieces: Sequence[Slice]) -> tuple[Slice, ...]:
    """The same slices, named within the whole model."""
    return tuple(replace(piece, parameter=f"{module}.{piece.parameter}") for piece in pieces)


def merged(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """The same numbers, each once, parameter by parameter."""
    by_parameter: dict[str, list[Slice]] = {}
    for piece in slices:
        by_parameter.setdefault(piece.parameter, []).append(piece)
    return tuple(piece for pieces in by_parameter.values() for piece in joined(pieces))


def joined(pieces: Sequence[Slice]) -> list[Slice]:
    """Slices of one parameter, those that overlap or touch made one."""
    undivided = [piece for piece in pieces if piece.axis is None]
    if undivided:
        return undivided[:1]
    assert len({piece.axis for piece in pieces}) == 1, "a parameter is cut along one axis only"
    first, *rest = sorted(pieces, key=lambda piece: piece.start)
    found = [first]
    for piece in rest:
        last = found[-1]
        if piece.start > last.stop:
            found.append(piece)
        else:
            found[-1] = replace(last, stop=max(last.stop, piece.stop))
    return found
