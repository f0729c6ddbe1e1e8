"""Which known class of Python source a token belongs to, read off the text of its context alone.

A context is cut out of a file at both ends, so that the standard library's `tokenize` does not read it; this is a plain
scanner over its characters. What it cannot know:

- whether the context began inside a string. The first triple quotes tell, by what stands beside them on their line,
  whether they open or close; a context of prose without any reads as code.
- what came before: an identifier counts as new at its first occurrence in the context. A word that the cut
  halves is another word.
- names inside f-strings, which are strings here.

Token texts are those of the run's vocabulary, each decoded alone; a tokenizer that loses spaces that way joins words.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

INDENTATION = "newline, indentation"
OPENING = "opening bracket"
CLOSING = "closing bracket"
KEYWORD = "keyword"
COPIED = "identifier, copied"
NEW = "identifier, new"
PROSE = "docstring, comment"
OTHER = "other"
#: All that are known; whatever is none of them is `OTHER`.
CLASSES = (INDENTATION, OPENING, CLOSING, KEYWORD, COPIED, NEW, PROSE)

CODE, TEXT, STRING = "c", "t", "s"
TRIPLE = re.compile(r'"""|\'\'\'')
#: What may stand before triple quotes that open on a line with something before them.
BEFORE_OPENING = re.compile(r"(^|[\s=(\[{,:+%])[rbuf]{0,2}$", re.IGNORECASE)
#: A comment, a string in triple quotes, one in single quotes that ends with its line at the latest.
PIECE = re.compile(
    r"(?P<t>#[^\n]*|\"{3}(?:\\.|[^\\])*?(?:\"{3}|\Z)|'{3}(?:\\.|[^\\])*?(?:'{3}|\Z))"
    r"|(?P<s>\"(?:\\.|[^\\\"\n])*\"?|'(?:\\.|[^\\'\n])*'?)",
    re.DOTALL,
)
WORD = re.compile(r"\w+")


def began_inside(text: str) -> int:
    """Where a triple-quoted string ends in which the text seems to have begun; 0 if it began in code."""
    found = TRIPLE.search(text)
    if found is None:
        return 0
    before = text[: found.start()].rpartition("\n")[2]
    after = text[found.end() :].partition("\n")[0]
    closes = not after.strip() if not before.strip() else BEFORE_OPENING.search(before) is None
    return found.end() if closes else 0


def regions(text: str) -> str:
    """For every character: code, text (comments and triple quotes, delimiters included), or another string."""
    end = began_inside(text)
    kinds = [TEXT * end]
    for found in PIECE.finditer(text, end):
        kinds += [CODE * (found.start() - end), (TEXT if found["t"] else STRING) * len(found[0])]
        end = found.end()
    return "".join([*kinds, CODE * (len(text) - end)])


def words(text: str, kinds: str) -> dict[int, str]:
    """Class of the word of code that holds a character, for every such character."""
    seen: set[str] = set()
    known = {}
    for found in WORD.finditer("".join(c if kind == CODE else " " for c, kind in zip(text, kinds, strict=True))):
        word = found[0]
        prefix = text[found.end() : found.end() + 1] in ("'", '"')
        if word[0].isdigit() or prefix:
            continue
        name = KEYWORD if keyword.iskeyword(word) else COPIED if word in seen else NEW
        known.update(dict.fromkeys(range(*found.span()), name))
        seen.add(word)
    return known


def class_of(token: str, start: int, text: str, kinds: str, known: dict[int, str]) -> str:
    """Class of the token that begins at ``start`` of the text."""
    if not token.strip():
        line = text[:start].rpartition("\n")[2]
        return INDENTATION if "\n" in token or (token and not line.strip()) else OTHER
    visible = [i for i in range(start, start + len(token)) if not text[i].isspace()]
    code = [i for i in visible if kinds[i] == CODE]
    if not code:
        is_prose = any(kinds[i] == TEXT and text[i].isalpha() for i in visible)
        return PROSE if is_prose else OTHER
    shown = {text[i] for i in code}
    if code[0] == visible[0] and code[0] in known:
        return known[code[0]]
    if any(c.isalnum() or c == "_" for c in shown):
        return OTHER
    opens, closes = bool(shown & set("([{")), bool(shown & set(")]}"))
    return OTHER if opens == closes else OPENING if opens else CLOSING


def token_classes(tokens: Sequence[str]) -> list[str]:
    """The class of every token of one context, given by their texts in order."""
    text = "".join(tokens)
    kinds = regions(text)
    known = words(text, kinds)
    ends = np.cumsum([0, *map(len, tokens)]).tolist()
    return [
        class_of(token, start, text, kinds, known) for token, (start, _) in zip(tokens, pairwise(ends), strict=True)
    ]
