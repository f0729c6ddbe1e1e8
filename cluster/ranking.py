"""Candidates ranked by their distance in double precision."""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def rank_candidates(points, queries, itself, candidates, distances, neighbours):  # type: ignore[no-untyped-def]
    """Fill the k best of each row by insertion; returns the number of rows with too few candidates."""
    k = distances.shape[1]
    best = np.empty(k)
    short = 0
    for row in range(len(queries)):
        filled = 0
        for candidate in candidates[row]:
            if candidate < 0 or candidate == itself[row]:
                continue
            squared = 0.0
            for column in range(points.shape[1]):
                step = np.float64(queries[row, column]) - np.float64(points[candidate, column])
                squared += step * step
            place = min(filled, k)
            while place > 0 and (
                squared < best[place - 1] or (squared == best[place - 1] and candidate < neighbours[row, place - 1])
            ):
                place -= 1
            if place == k:
                continue
            filled = min(filled + 1, k)
            for moved in range(filled - 1, place, -1):
                best[moved] = best[moved - 1]
                neighbours[row, moved] = neighbours[row, moved - 1]
            best[place] = squared
            neighbours[row, place] = candidate
        short += filled < k
        for place in range(filled):
            distances[row, place] = np.sqrt(best[place])
    return short
