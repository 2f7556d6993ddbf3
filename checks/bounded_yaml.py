"""Reads YAML written by strangers: bounded in size, in nesting and in what aliases expand to."""

from __future__ import annotations

from pathlib import Path

import yaml

#: No file of questions comes near this size.
MOST_BYTES = 5_000_000
#: Nodes once every alias is written out; a few short lines of aliases can stand for billions.
MOST_NODES = 250_000
#: Lists and mappings inside each other. Stays below the recursion limit of the interpreter.
MOST_LEVELS = 50

#: libyaml reads a large file in a tenth of the time; both build plain values only.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableYamlError(ValueError):
    """A text is not YAML that can be used; the message says why and what to do."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8.

    Raises:
        UnreadableYamlError: larger than ``MOST_BYTES``, or not UTF-8.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UnreadableYamlError(_TOO_LARGE)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableYamlError(f"not UTF-8 at byte {error.start}: save it as UTF-8") from error


def read_yaml_file(path: Path) -> object:
    """Read a file as :func:`read_text` and :func:`read_yaml` do.

    Raises:
        UnreadableYamlError: not usable text, or not usable YAML.
        OSError: the file cannot be read.
    """
    return read_yaml(read_text(path))


def read_yaml(text: str) -> object:
    """Read one YAML document of plain values: text, numbers, lists, mappings, dates.

    Raises:
        UnreadableYamlError: larger than ``MOST_BYTES`` or, with all aliases written out, than
            ``MOST_NODES``; nested deeper than ``MOST_LEVELS``; an alias inside itself; a key given
            twice; a tag that would build anything but a plain value; or not YAML at all.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise UnreadableYamlError(_TOO_LARGE)
    try:
        _measure_events(text)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            _measure(root, {})
            loaded: object = loader.construct_document(root)
            return loaded
        finally:
            loader.dispose()
    except UnreadableYamlError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise UnreadableYamlError(f"not valid YAML: {place}{error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableYamlError(f"not valid YAML: {error}") from error


_TOO_LARGE = f"larger than {MOST_BYTES // 1_000_000} MB: split it into several files"
_TOO_DEEP = f"nested deeper than {MOST_LEVELS} levels: flatten it"
_TOO_MANY = f"more than {MOST_NODES:,} values, aliases written out: split it into several files"


def _measure_events(text: str) -> None:
    """Refuse depth and length before a tree is built: building one recurses unchecked, in C."""
    level = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        if level > MOST_LEVELS:
            raise UnreadableYamlError(f"line {_line(event)}: {_TOO_DEEP}")
        if number > 2 * MOST_NODES:
            raise UnreadableYamlError(f"line {_line(event)}: {_TOO_MANY}")


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Nodes and levels under a node, every alias written out; None is known of open nodes."""
    if id(node) in known:
        measured = known[id(node)]
        if measured is None:
            raise UnreadableYamlError(f"line {_line(node)}: an alias stands inside its own anchor")
        return measured
    known[id(node)] = None
    below = [_measure(child, known) for child in _children(node)]
    nodes = 1 + sum(count for count, _ in below)
    levels = 1 + max((level for _, level in below), default=0)
    if nodes > MOST_NODES:
        raise UnreadableYamlError(f"line {_line(node)}: {_TOO_MANY}")
    if levels > MOST_LEVELS + 1:
        raise UnreadableYamlError(f"line {_line(node)}: {_TOO_DEEP}")
    known[id(node)] = nodes, levels
    return nodes, levels


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in keys:
                raise UnreadableYamlError(
                    f"line {_line(key)}: '{key.value}' is given twice: keep one of them"
                )
            keys.add((key.tag, key.value))
    return [child for pair in node.value for child in pair]


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1
