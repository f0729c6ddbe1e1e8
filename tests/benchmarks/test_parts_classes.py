"""Token classes of Python source: each is found where it is, and cut contexts are read as far as they can be."""

import io
import re
import token as kinds
import tokenize
from pathlib import Path

import pytest

import benchmarks.parts.classes as parts_classes
from benchmarks.parts.classes import CLOSING, COPIED, INDENTATION, KEYWORD, NEW, OPENING, OTHER, PROSE, token_classes


def split(text: str) -> list[str]:
    """Words with the space before them, newlines with what they indent, and single signs."""
    return re.findall(r"\n\s*| ?\w+| ?[^\w\s]|\s", text)


def classes(text: str) -> dict[str, str]:
    """Class of every token by its text; of equal tokens, the last's."""
    tokens = split(text)
    return dict(zip(tokens, token_classes(tokens), strict=True))


def test_every_class_is_found() -> None:
    found = classes("def area(width):\n    # of a square\n    return width * 2\n")
    assert found["def"] == found["return"] == KEYWORD
    assert found[" area"] == NEW
    assert found["("] == OPENING
    assert found[")"] == CLOSING
    assert found["\n    "] == found["\n"] == INDENTATION
    assert found[" square"] == found[" of"] == PROSE
    assert found[" width"] == COPIED
    assert found[" *"] == found[":"] == found[" 2"] == OTHER


def test_an_identifier_is_new_once_and_copied_ever_after_in_all_its_pieces() -> None:
    tokens = ["get", "_", "parent", " =", " get", "_", "parent", ".", "get"]
    assert token_classes(tokens) == [NEW, NEW, NEW, OTHER, COPIED, COPIED, COPIED, OTHER, NEW]


def test_what_strings_and_comments_hold_is_neither_code_nor_seen_by_it() -> None:
    assert token_classes(["x", " =", " '", "if", "(", "\\'", "name", "')", "\n", "name"]) == [
        NEW, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, CLOSING, INDENTATION, NEW,
    ]  # fmt: skip
    assert classes("# if name (\nname")["name"] == NEW
    assert classes('"# no comment"; name')[" name"] == NEW


def test_brackets_count_beside_other_signs_but_not_when_they_close_at_once() -> None:
    assert token_classes(["f", "('", "a", "'):", " g", "()", "(_", "])"]) == [
        NEW, OPENING, OTHER, CLOSING, NEW, OTHER, OTHER, CLOSING,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "prose", "code"),
    [
        ('Words of help.\n    """\n    x = value', "help", " value"),  # began inside, closed on a line of its own
        ('Words of help."""\n    x = value', "help", " value"),  # began inside, closed after prose
        ('x = value\n"""Words of help."""', "help", " value"),
        ('x = value\ny = """\nWords of help', "help", " value"),  # not closed before the cut
        ("x = value\ny = f(r'''\nWords of help", "help", " value"),
    ],
)
def test_the_first_triple_quotes_tell_where_a_context_began(text: str, prose: str, code: str) -> None:
    found = classes(text)
    assert found[f" {prose}"] == PROSE
    assert found[code] == NEW


def test_white_space_within_a_line_is_no_indentation() -> None:
    assert token_classes(["x", " ", "=", "\n", "  ", "y"]) == [NEW, OTHER, OTHER, INDENTATION, INDENTATION, NEW]


def test_empty_tokens_and_contexts_are_nothing() -> None:
    assert token_classes([]) == []
    assert token_classes(["", "x"]) == [OTHER, NEW]


def test_whole_files_read_as_the_standard_library_reads_them() -> None:
    """Names, keywords and brackets of real source, character by character; the scanner's own is full of quotes."""
    path = Path(parts_classes.__file__)
    for source in (path.read_text(encoding="utf-8"), Path(tokenize.__file__).read_text(encoding="utf-8")):
        source = re.sub(r'\b[fF](?=["\'])', "", source)  # f-strings are strings here
        tokens = split(source)
        at, place = {}, 0
        for text, name in zip(tokens, token_classes(tokens), strict=True):
            at[place + len(text) - len(text.lstrip(" "))] = name
            place += len(text)
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for one in tokenize.generate_tokens(io.StringIO(source).readline):
            found = at.get(starts[one.start[0] - 1] + one.start[1])
            if one.type == kinds.NAME:
                assert found in ({KEYWORD} if parts_classes.keyword.iskeyword(one.string) else {COPIED, NEW}), one
            elif one.type == kinds.OP and one.string in "([{":
                assert found == OPENING, one
