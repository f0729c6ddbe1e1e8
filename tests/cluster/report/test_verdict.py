import pytest

from cluster.report.verdict import leakage_verdict


def found(**statuses: str) -> dict[str, dict[str, str]]:
    return {
        name: {"status": status.replace("_", " "), "sentence": f"About {name}."} for name, status in statuses.items()
    }


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ({"gradients": "visible", "activations": "not_visible"}, "visible"),
        ({"gradients": "not_visible", "activations": "not_visible"}, "not visible"),
        ({"gradients": "unmeasurable", "activations": "not_visible"}, "not visible"),
        ({"gradients": "unmeasurable", "activations": "unmeasurable"}, "untested"),
    ],
)
def test_one_input_that_leaks_is_leakage_and_none_that_was_told_is_no_verdict(
    statuses: dict[str, str], status: str
) -> None:
    verdict = leakage_verdict(found(**statuses))
    assert verdict.status == status
    assert verdict.sentence == "About activations."
    assert verdict.further == {"gradients": "About gradients."}
    assert list(verdict.of) == [name for name, one in statuses.items() if one == "visible"]


def test_without_activations_the_first_input_speaks() -> None:
    verdict = leakage_verdict(found(responses="visible"))
    assert (verdict.sentence, verdict.further) == ("About responses.", {})


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_measurement_is_no_acquittal(nothing: dict[str, dict[str, str]] | None) -> None:
    verdict = leakage_verdict(nothing)
    assert verdict.status == "missing"
    assert "cannot be ruled out" in verdict.sentence
