"""YAML in which every scalar is text and knows its line: `no` stays "no", a key given twice is a problem.

Ordinary YAML turns the option `No` into False, `1.0` into a number, and keeps the last of two equal keys in silence.
"""

import pathlib

import yaml

from cuma_jax.tables.packed import opened, reported
from cuma_jax.tables.problems import Problems

MAX_BYTES = 4_000_000
# The same loader in C, where there is one: five times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Text(str):
    """A scalar, as written, and the line it is in, from 1 (`null`, `~` and nothing are the empty text)."""

    line: int

    @classmethod
    def at(cls, value: str, line: int) -> "Text":
        """`value` at `line`."""
        text = cls(value)
        text.line = line
        return text


class Items(list["Value"]):
    """A list and the line it starts in."""

    line: int = 1


class Mapping(dict[Text, "Value"]):
    """A mapping and the line it starts in; its keys are `Text`."""

    line: int = 1


Value = Text | Items | Mapping


def read_yaml(path: pathlib.Path, problems: Problems) -> Value | None:
    """The one document in `path`; None (and a problem) if it cannot be read."""
    data = None
    with reported(path, problems), opened(path) as file:
        data = file.read(MAX_BYTES + 1)
    if data is None:
        return None
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES // 1_000_000} MB; a list of questions is not so long")
        root = yaml.compose(data.decode("utf-8-sig"), Loader=_LOADER)
        if root is None:
            raise ValueError("is empty")
        return _Reader(path, problems).value(root)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.error(path, line, None, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        hint = "put quotes around a text that holds ': ' or a special character"
        problems.error(path, mark.line + 1 if mark else None, None, f"is not valid YAML: {what}", hint)
    except yaml.YAMLError as error:
        problems.error(path, None, None, f"is not valid YAML: {' '.join(str(error).split())}")
    except (RecursionError, ValueError) as error:
        deep = isinstance(error, RecursionError)
        message = "is nested too deeply or within itself" if deep else str(error)
        problems.error(path, None, None, message, "see docs/my_survey.md")
    return None


class _Reader:
    def __init__(self, path: pathlib.Path, problems: Problems):
        self.path, self.problems = path, problems
        self.done: dict[int, Value] = {}
        self.open: set[int] = set()

    def value(self, node: yaml.Node) -> Value:
        """The node as a value; a node that an alias names again is read once."""
        if id(node) not in self.done:
            if id(node) in self.open:
                raise RecursionError
            self.open.add(id(node))
            self.done[id(node)] = self._read(node)
        return self.done[id(node)]

    def _read(self, node: yaml.Node) -> Value:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            if any("\ud800" <= c <= "\udfff" for c in node.value):
                raise ValueError(f"line {line} holds half of a character (a lone surrogate)")
            empty = node.tag == "tag:yaml.org,2002:null"
            return Text.at("" if empty else node.value, line)
        if isinstance(node, yaml.SequenceNode):
            items = Items(self.value(child) for child in node.value)
            items.line = line
            return items
        mapping = Mapping()
        mapping.line = line
        for key_node, child in node.value:
            key, at = self.value(key_node), key_node.start_mark.line + 1
            if not isinstance(key, Text):
                self.problems.error(self.path, at, None, "a key is not a simple text", "write it as `key: value`")
            elif key in mapping:
                first = next(k.line for k in mapping if k == key)
                self.problems.error(
                    self.path, at, None, f"key {str(key)!r} is given twice (first in line {first})", "keep one of them"
                )
            else:
                mapping[key] = self.value(child)
        return mapping
