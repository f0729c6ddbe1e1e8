import numpy as np

from cluster.report.windows import NO_CLUSTER, cut_windows


def test_windows_against_slices_taken_one_by_one() -> None:
    rng = np.random.default_rng(0)
    contexts, length, before, after = 5, 12, 4, 3
    tokens = rng.integers(0, 99, (contexts, length)).astype(np.int32)
    labels = rng.integers(-1, 3, contexts * (length - 1)).astype(np.int32)
    rows = np.arange(len(labels))
    windows = cut_windows(tokens, labels, rows, rows // (length - 1), rows % (length - 1) + 1, before, after)
    for row, window in zip(rows, windows, strict=True):
        context, position = divmod(int(row), length - 1)
        position += 1
        low, high = max(0, position - before), min(length, position + after + 1)
        assert window.tokens == tokens[context, low:high].tolist()
        assert window.marked == position - low
        expected = [
            [place - low, int(labels[context * (length - 1) + place - 1])]
            for place in range(low, high)
            if place not in (0, position) and labels[context * (length - 1) + place - 1] != NO_CLUSTER
        ]
        assert window.neighbours == [value for pair in expected for value in pair]
