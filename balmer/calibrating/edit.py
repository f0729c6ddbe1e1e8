"""Changing a few values of a run file in place: everything else, comments included, stays as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scale.errors import UserError
from scale.store import write_bytes

Value = float | int | str
#: Of every section the keys that get a new value.
Sections = Mapping[str, Mapping[str, Value]]


def number(value: Value) -> str:
    """As YAML 1.1 reads it back: a float needs a point before its exponent; words stand as they are."""
    if isinstance(value, str):
        return value
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    return text if not exponent or "." in mantissa else f"{mantissa}.0e{power}"


def refuse(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}; copy the lines by hand")


def entry(mapping: yaml.MappingNode, key: str, path: Path) -> tuple[yaml.Node, yaml.Node] | None:
    """Key and value of a mapping, None if it has no such key."""
    found = [(name, value) for name, value in mapping.value if name.value == key]
    if len(found) > 1:
        raise refuse(path, f"{key} is given {len(found)} times")
    return found[0] if found else None


def new_lines(values: Mapping[str, Value], indent: str, end: str) -> str:
    return "".join(f"{indent}{key}: {number(value)}{end}" for key, value in values.items())


def line_after(text: str, index: int) -> int:
    """Where the line that holds ``index`` ends."""
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def last_character(node: yaml.Node) -> int:
    """Of a node's own text: the mark behind a block lies after the blank lines and comments that follow it."""
    while isinstance(node, yaml.MappingNode | yaml.SequenceNode) and not node.flow_style:
        inner = node.value[-1]
        if isinstance(inner, tuple):  # a key without a value has its mark where the next thing begins
            inner = inner[0] if inner[1].value == "" else inner[1]
        node = inner
    return max(node.start_mark.index, node.end_mark.index - 1)


def changes(text: str, section: str, values: Mapping[str, Value], path: Path) -> list[tuple[int, int, str]]:
    """What is to be put in place of which ranges of ``text``."""
    root, end = yaml.compose(text), "\r\n" if "\r\n" in text else "\n"
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise refuse(path, "uses YAML aliases, where a change in one place is a change in others")
    if root is not None and (not isinstance(root, yaml.MappingNode) or root.flow_style):
        raise refuse(path, "is not one key per line")
    found = None if root is None else entry(root, section, path)
    if found is None:
        return [(len(text), len(text), f"{section}:{end}" + new_lines(values, "  ", end))]
    key, mapping = found
    if isinstance(mapping, yaml.ScalarNode) and not mapping.value:
        place = line_after(text, key.end_mark.index)
        return [(place, place, new_lines(values, "  ", end))]
    if not isinstance(mapping, yaml.MappingNode) or mapping.flow_style:
        raise refuse(path, f"{section} is not one key per line")
    return inside(text, mapping, values, path, end)


def inside(
    text: str, mapping: yaml.MappingNode, values: Mapping[str, Value], path: Path, end: str
) -> list[tuple[int, int, str]]:
    """Values that are there are replaced, the others come after the section's last."""
    found, absent = [], {}
    for key, value in values.items():
        there = entry(mapping, key, path)
        if there is None:
            absent[key] = value
        elif not isinstance(there[1], yaml.ScalarNode):
            raise refuse(path, f"{key} is not a number")
        elif there[1].value == "":
            colon = text.index(":", there[0].end_mark.index) + 1
            found.append((colon, colon, f" {number(value)}"))
        else:
            found.append((there[1].start_mark.index, there[1].end_mark.index, number(value)))
    if absent:
        place = line_after(text, last_character(mapping))
        indent = " " * mapping.value[0][0].start_mark.column
        found.append((place, place, new_lines(absent, indent, end)))
    return found


def edited(text: str, section: str, values: Mapping[str, Value], path: Path) -> str:
    """``text`` with ``section.key`` set to each of ``values``; refused unless that is all that it then says anew."""
    result = text
    for begin, end, new in sorted(changes(text, section, values, path), reverse=True):
        before = result[:begin]
        if new.endswith("\n") and before and not before.endswith("\n"):
            before += "\n"
        result = before + new + result[end:]
    expected: dict[str, Any] = yaml.safe_load(text) or {}
    expected[section] = (expected.get(section) or {}) | dict(values)
    if not says(result, expected):
        raise refuse(path, f"has no unambiguous place for {section}.{', '.join(values)}")
    return result


def says(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == expected)
    except yaml.YAMLError:
        return False


def with_values(path: Path, sections: Sections) -> str:
    """What the run file would read."""
    text = path.read_bytes().decode("utf-8")
    for section, values in sections.items():
        text = edited(text, section, values, path)
    return text


def set_values(path: Path, sections: Sections) -> None:
    """Change the run file on disk, all at once."""
    write_bytes(path.resolve(), with_values(path, sections).encode("utf-8"))
