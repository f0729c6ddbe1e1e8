"""The kernels of a walk: pushes of one vertex at a time, and of many at once where they would repeat.

Pushing mass m at u moves keep = 2 alpha / (1 + alpha) of it into p and spreads the rest over u's neighbours by weight.
It keeps pr(s) = p + pr(r) and sum(p + r) = 1 for any m; where r stays non-negative, p is below pr(s).

A vertex is pushed when r >= line = epsilon * degree, down to half its line. Leaving half there rather than nothing
costs a sixth more pushes where a walk stays near its seed, saves two thirds where it would otherwise just flood the
graph (epsilon * volume of 1 to 3), and lets many vertices be pushed at once: for the vertices S opened so far,

    (D - (1 - keep) A)_SS y = r_S - line_S / 2

has a solution y >= 0, and pushing mass D y at all of S leaves half a line on each of them, as endless pushes among them
would. Within a tight cluster these are hundreds for every vertex; conjugate gradients find y in a few tens of passes,
and need not be exact: r stays non-negative as long as each vertex of S misses its half line by less than half of it.

Vertices are numbered in the order in which mass reaches them, and edges copied in the order in which they are opened:
what a walk reads and writes is as large as what it reaches, and one int32 for each vertex of the graph leads there.
"""

import numba
import numpy as np

from cluster.walkstate import (
    COPIED,
    DONE,
    EDGES,
    FULL,
    LIFTED,
    LONG,
    OPENED,
    PATIENT,
    POSITION,
    PUSHES,
    REACHED,
    ROUND,
    SOLUTIONS,
    WAITING,
    WORK,
)  # fmt: skip

#: S is solved for once the edges pushed since it last was are this many times the edges of S.
PATIENCE = 2
#: Error of conjugate gradients relative to the largest residual, times keep: below it, rounding is in the way.
FINEST = 1e-11


@numba.njit(cache=True, nogil=True)
def open_vertex(u, number, graph, here, state, counters):  # type: ignore[no-untyped-def]
    """Copy the edges of a vertex about to be pushed for the first time; False if there is no room for them.

    Whether a neighbour is new is unpredictable: its number is written as if it were, and counted only then.
    """
    vertex = state.vertex[u]
    first, last = graph.first[vertex], graph.last[vertex]
    copied, reached = counters[COPIED], counters[REACHED]
    if copied + last - first > len(here.neighbours) or reached + last - first >= len(state.vertex):
        return False
    here.first[u] = copied
    for edge in range(np.uintp(first), np.uintp(last)):
        v = np.uintp(graph.neighbours[edge])
        new = number[v] < 0
        own = np.int32(reached) if new else number[v]
        number[v] = own
        state.vertex[np.uintp(reached)] = v
        here.neighbours[np.uintp(copied)] = own
        here.weights[np.uintp(copied)] = graph.weights[edge]
        reached += np.int64(new)
        copied += 1
    here.last[u] = copied
    for own in range(counters[REACHED], reached):
        here.degree[own] = graph.degree[state.vertex[own]]
        here.first[own] = -1
        state.r[own] = 0.0
    state.p[u] = 0.0
    state.opened[counters[OPENED]] = u
    counters[OPENED] += 1
    counters[COPIED], counters[REACHED] = copied, reached
    return True


@numba.njit(cache=True, nogil=True)
def spread(first, last, neighbours, weights, degree, r, share, epsilon, later, lifted):  # type: ignore[no-untyped-def]
    """Give `share` times its weight along every edge; list who is lifted over its line.

    Every neighbour is written behind the end of the list and counted only if it was lifted: a branch there is
    unpredictable. Unsigned indices spare numba's handling of negative ones.
    """
    for edge in range(np.uintp(first), np.uintp(last)):
        v = np.uintp(neighbours[edge])
        before = r[v]
        after = before + share * weights[edge]
        r[v] = after
        line = epsilon * degree[v]
        later[np.uintp(lifted)] = v
        lifted += np.int64(before < line) & np.int64(after >= line)
    return lifted


@numba.njit(cache=True, nogil=True)
def push_queue(keep, epsilon, number, graph, here, state, counters):  # type: ignore[no-untyped-def]
    """Push first come, first served, in rounds; ends as `DONE`, `FULL` or `LONG`.

    A vertex waits in a queue exactly while r >= line, so no flags are needed.
    """
    while counters[WAITING] > 0:
        now, later = state.queues[counters[ROUND]], state.queues[1 - counters[ROUND]]
        lifted = counters[LIFTED]
        for position in range(counters[POSITION], counters[WAITING]):
            u = now[position]
            if here.first[u] < 0 and not open_vertex(u, number, graph, here, state, counters):
                counters[POSITION], counters[LIFTED] = position, lifted
                return FULL
            degree = here.degree[u]
            rest = 0.5 * epsilon * degree
            mass = state.r[u] - rest
            state.r[u] = rest
            state.p[u] += keep * mass
            first, last = here.first[u], here.last[u]
            share = (1.0 - keep) * mass / degree
            lifted = spread(
                first, last, here.neighbours, here.weights, here.degree, state.r, share, epsilon, later, lifted
            )
            counters[WORK] += last - first
            counters[PUSHES] += 1
        counters[ROUND] = 1 - counters[ROUND]
        counters[POSITION], counters[WAITING], counters[LIFTED] = 0, lifted, 0
        if lifted > 0 and counters[WORK] > counters[PATIENT] * counters[COPIED]:
            return LONG
    return DONE


@numba.njit(cache=True, nogil=True)
def gathered(first, last, neighbours, weights, values):  # type: ignore[no-untyped-def]
    """Sum of weight times value over edges, in four partial sums: one would wait for each addition to finish."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    edge = np.uintp(first)
    for _ in range((last - first) // 4):
        a += weights[edge] * values[np.uintp(neighbours[edge])]
        b += weights[edge + np.uintp(1)] * values[np.uintp(neighbours[edge + np.uintp(1)])]
        c += weights[edge + np.uintp(2)] * values[np.uintp(neighbours[edge + np.uintp(2)])]
        d += weights[edge + np.uintp(3)] * values[np.uintp(neighbours[edge + np.uintp(3)])]
        edge += np.uintp(4)
    while edge < np.uintp(last):
        a += weights[edge] * values[np.uintp(neighbours[edge])]
        edge += np.uintp(1)
    return (a + b) + (c + d)


@numba.njit(cache=True, nogil=True)
def can_be_solved(keep, epsilon, here, state, counters):  # type: ignore[no-untyped-def]
    """Whether float64 has room between the largest residual and the error that may be left."""
    largest = 0.0
    for u in state.opened[: counters[OPENED]]:
        largest = max(largest, state.r[u] / here.degree[u])
    return epsilon * keep > FINEST * largest


@numba.njit(cache=True, nogil=True)
def solve(keep, epsilon, here, state, counters):  # type: ignore[no-untyped-def]
    """Conjugate gradients for the mass per degree y to push at all opened vertices, left in `state.total`.

    Preconditioned by the degrees, so that the condition number is below 2 / keep and the number of passes bounded.
    Returns whether y is near enough: every vertex misses its half line by at most a quarter of a line, and y is
    nowhere below zero by more than that.
    """
    opened = state.opened[: counters[OPENED]]
    squared = 0.0
    for u in opened:
        missing = state.r[u] - 0.5 * epsilon * here.degree[u]
        state.missing[u], state.total[u] = missing, 0.0
        state.step[u] = missing / here.degree[u]
        squared += missing * missing / here.degree[u]
    near = False
    for _ in range(int(20.0 * np.sqrt(2.0 / keep))):
        curvature = 0.0
        for u in opened:
            inflow = gathered(here.first[u], here.last[u], here.neighbours, here.weights, state.step)
            state.image[u] = here.degree[u] * state.step[u] - (1.0 - keep) * inflow
            curvature += state.image[u] * state.step[u]
        counters[EDGES] += counters[COPIED]
        length, before, squared, near = squared / curvature, squared, 0.0, True
        for u in opened:
            state.total[u] += length * state.step[u]
            missing = state.missing[u] - length * state.image[u]
            state.missing[u] = missing
            slack = 0.25 * epsilon * here.degree[u]
            near = near and abs(missing) <= slack and -state.total[u] * here.degree[u] <= slack
            squared += missing * missing / here.degree[u]
        if near or squared == 0.0:  # solved exactly, though y may be further below zero than it should
            break
        for u in opened:
            state.step[u] = state.missing[u] / here.degree[u] + squared / before * state.step[u]
    for u in opened:
        state.step[u] = 0.0
    return near


@numba.njit(cache=True, nogil=True)
def push_together(keep, here, state, counters):  # type: ignore[no-untyped-def]
    """Push mass y * degree at every opened vertex."""
    for u in state.opened[: counters[OPENED]]:
        per_degree = max(state.total[u], 0.0)
        state.r[u] -= per_degree * here.degree[u]
        state.p[u] += keep * per_degree * here.degree[u]
        share = (1.0 - keep) * per_degree
        for edge in range(np.uintp(here.first[u]), np.uintp(here.last[u])):
            state.r[np.uintp(here.neighbours[edge])] += share * here.weights[edge]
    counters[EDGES] += counters[COPIED]


@numba.njit(cache=True, nogil=True)
def queue_anew(epsilon, here, state, counters):  # type: ignore[no-untyped-def]
    """Queue every vertex at or above its line."""
    waiting = np.int64(0)
    now = state.queues[counters[ROUND]]
    for u in range(counters[REACHED]):
        now[waiting] = u
        waiting += np.int64(state.r[u] >= epsilon * here.degree[u])
    counters[POSITION], counters[WAITING], counters[LIFTED] = 0, waiting, 0


@numba.njit(cache=True, nogil=True)
def start(seed, epsilon, number, graph, here, state, counters):  # type: ignore[no-untyped-def]
    """Put all mass on the seed; a vertex without edges keeps it."""
    counters[:] = 0
    number[seed] = 0
    state.vertex[0], state.r[0] = seed, 1.0
    here.degree[0], here.first[0] = graph.degree[seed], -1
    counters[REACHED], counters[PATIENT] = 1, PATIENCE
    if graph.degree[seed] > 0.0:
        queue_anew(epsilon, here, state, counters)
        return
    state.p[0], state.r[0] = 1.0, 0.0
    here.first[0], here.last[0] = 0, 0
    state.opened[0], counters[OPENED] = 0, 1


@numba.njit(cache=True, nogil=True)
def walk_on(alpha, epsilon, number, graph, here, state, counters):  # type: ignore[no-untyped-def]
    """Push until r < line everywhere; FULL if there is no room to go on, to be called again with more."""
    keep = 2.0 * alpha / (1.0 + alpha)
    while True:
        outcome = push_queue(keep, epsilon, number, graph, here, state, counters)
        if outcome == FULL:
            return FULL
        counters[EDGES] += counters[WORK]
        counters[WORK] = 0
        if outcome == DONE:
            return DONE
        if can_be_solved(keep, epsilon, here, state, counters):
            if solve(keep, epsilon, here, state, counters):
                push_together(keep, here, state, counters)
                queue_anew(epsilon, here, state, counters)
                counters[SOLUTIONS] += 1
            else:
                counters[PATIENT] *= 2
