"""Values put into a run file: what is not meant stays as it stands, and what cannot be done safely is refused."""

from pathlib import Path

import pytest
import yaml

from balmer.calibrating.edit import edited, number, set_values
from scale.errors import UserError

PATH = Path("run.yaml")
VALUES = {"step_size": 9e-05, "burn_in": 40}
COMMENTED = """\
# My run, with reasons.
folder: out   # here
sgld:   # the sampler
    step_size: 3.0e-4   # from the paper
    # how long
    burn_in:    8
    components: [l0h0, "l1 mlp"]

# and the rest
probe: {draws_per_document: 8}
"""


def test_values_are_replaced_where_they_stand() -> None:
    result = edited(COMMENTED, "sgld", VALUES, PATH)
    expected = COMMENTED.replace("3.0e-4 ", "9.0e-05 ").replace("burn_in:    8", "burn_in:    40")
    assert result == expected


def test_values_that_are_not_there_follow_the_section_s_last() -> None:
    result = edited(COMMENTED, "sgld", VALUES | {"nbeta": 30.0}, PATH)
    assert '    components: [l0h0, "l1 mlp"]\n    nbeta: 30.0\n\n# and the rest' in result
    assert len(result.splitlines()) == len(COMMENTED.splitlines()) + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("folder: out\n", "folder: out\nsgld:\n  step_size: 9.0e-05\n  burn_in: 40\n"),
        ("folder: out", "folder: out\nsgld:\n  step_size: 9.0e-05\n  burn_in: 40\n"),
        ("# nothing yet\n", "# nothing yet\nsgld:\n  step_size: 9.0e-05\n  burn_in: 40\n"),
        ("sgld:  # mine\nfolder: out\n", "sgld:  # mine\n  step_size: 9.0e-05\n  burn_in: 40\nfolder: out\n"),
        ("sgld:\n  burn_in:\n  step_size: 1.0", "sgld:\n  burn_in: 40\n  step_size: 9.0e-05"),
        ("sgld:\n  burn_in:\n# end\n", "sgld:\n  burn_in: 40\n  step_size: 9.0e-05\n# end\n"),
        ("sgld:\r\n  burn_in: 8\r\n", "sgld:\r\n  burn_in: 40\r\n  step_size: 9.0e-05\r\n"),
        ("sgld:\n  components:\n  - all\nfolder: out\n",
         "sgld:\n  components:\n  - all\n  step_size: 9.0e-05\n  burn_in: 40\nfolder: out\n"),
    ],
)  # fmt: skip
def test_files_of_every_shape(text: str, expected: str) -> None:
    assert edited(text, "sgld", VALUES, PATH) == expected
    assert edited(expected, "sgld", VALUES, PATH) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sgld: {burn_in: 8}\n", "sgld is not one key per line"),
        ("{folder: out}\n", "is not one key per line"),
        ("sgld:\n  burn_in: 8\n  burn_in: 9\n", "burn_in is given 2 times"),
        ("sgld:\n  burn_in: 8\nsgld:\n  burn_in: 9\n", "sgld is given 2 times"),
        ("sgld: &a\n  burn_in: 8\nother: *a\n", "uses YAML aliases"),
        ("sgld:\n  burn_in: [8]\n", "burn_in is not a number"),
        ("sgld: all\n", "sgld is not one key per line"),
    ],
)
def test_what_is_not_unambiguous_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        edited(text, "sgld", VALUES, PATH)
    assert str(caught.value).startswith("run.yaml: ")
    assert said in str(caught.value)
    assert "copy the lines by hand" in str(caught.value)


@pytest.mark.parametrize("value", [3e-4, 9e-05, 1e-05, 1.25e-07, 0.1, 300.0, 1e16, 2.5e22, 7, 0])
def test_numbers_are_read_back_as_numbers(value: float) -> None:
    assert yaml.safe_load(f"x: {number(value)}") == {"x": value}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("sgld:\n  burn_in: 8\n", encoding="utf-8")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "real.yaml")
    set_values(tmp_path / "link.yaml", {"sgld": {"burn_in": 40}})
    assert (tmp_path / "link.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text(encoding="utf-8") == "sgld:\n  burn_in: 40\n"
