"""Which hyperparameters a task reads, as its source says: to import it would be to import torch."""

import ast
import contextlib
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from engine.hyperparameters import Key

KINDS = {kind.__name__: kind for kind in (str, int, float, bool, list)}


class Declarations(NamedTuple):
    """What stands in the source of a task."""

    keys: dict[str, Key]  # its options: each `Key(...)` that is written out, and is the only one of its name
    names: set[str]  # whatever may be the name of a hyperparameter: each attribute, and each text that is a name


def read_declarations(task: str) -> Declarations:
    """What the task package `task` declares; nothing where it is not found, or its files are no Python.

    >>> read_declarations("model").keys["num_channels"].default
    32
    """
    nodes = [node for path in source_files(task) for node in _nodes(path)]
    keys = {repr(key): key for node in nodes if isinstance(node, ast.Call) and (key := _key(node))}.values()
    names = Counter(key.name for key in keys)
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return Declarations(
        {key.name: key for key in keys if names[key.name] == 1},
        attributes | {text for text in texts if text.isidentifier()},
    )


def source_files(task: str) -> list[Path]:
    """The Python files of a task package, found as an import would find them, and nothing imported."""
    places: list[str] | None = None
    for part in task.split("."):
        spec = PathFinder.find_spec(part, places)
        places = list(spec.submodule_search_locations or ()) if spec else []
    return sorted(path for place in places or () for path in Path(place).rglob("*.py"))


def _nodes(path: Path) -> Iterator[ast.AST]:
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        yield from ast.walk(ast.parse(path.read_bytes()))


def _key(call: ast.Call) -> Key | None:
    """The `Key` that a call makes, as far as it is written out; its meaning and choices are not asked for."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name != "Key" or len(call.args) < 4 or not isinstance(call.args[1], ast.Name):
        return None
    with contextlib.suppress(ValueError, KeyError):
        limits = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg in ("low", "high")}
        default = ast.literal_eval(call.args[2])
        return Key(ast.literal_eval(call.args[0]), KINDS[call.args[1].id], default, "", **limits)
    return None
