"""New inputs to predict: found on the command line, read by the task one by one, put together into batches."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import default_collate

from engine.errors import UserError
from engine.hyperparameters import Params
from engine.nested import tensors_in

ReadInput = Callable[[str, Params], Iterable[tuple[str, Any]]]


class Inputs(NamedTuple):
    """A batch of examples of one shape, with their names."""

    names: list[str]
    batch: Any


def find_sources(words: Sequence[str]) -> list[str]:
    """Files, files below folders, the lines of standard input for `-`; what is no path is a text, and stays."""
    found: list[str] = []
    for word in words:
        if word == "-":
            found += [line for line in sys.stdin.read().splitlines() if line]
        elif word and Path(word).is_dir():
            files = (path for path in sorted(Path(word).rglob("*")) if path.is_file())
            found += [str(path) for path in files if not any(part.startswith(".") for part in path.parts)]
        else:
            found.append(word)
    return found


def read_inputs(
    sources: Iterable[str], read_input: ReadInput, params: Params, batch_size: int, unread: dict[str, str]
) -> Iterator[Inputs]:
    """The examples of all sources in order, in batches; a source that cannot be read goes to `unread`, with why."""
    names: list[str] = []
    examples: list[Any] = []
    for name, example in _examples(sources, read_input, params, unread):
        if examples and (len(examples) == batch_size or _shapes(example) != _shapes(examples[0])):
            yield Inputs(names, default_collate(examples))
            names, examples = [], []
        names.append(name)
        examples.append(example)
    if examples:
        yield Inputs(names, default_collate(examples))


def _examples(
    sources: Iterable[str], read_input: ReadInput, params: Params, unread: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    for source in sources:
        try:
            yield from list(read_input(source, params))
        except (UserError, OSError, ValueError) as error:
            unread[source] = " ".join((getattr(error, "strerror", None) or str(error)).split())


def _shapes(example: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors_in(example)]


def form_of_batch(batch: Any) -> str:
    """What a batch of any size looks like: `(B, 3, 64, 64) uint8`."""
    tensors = tensors_in(batch)
    shapes = ((("B", *map(str, tensor.shape[1:])), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors)
    return ", ".join(f"({', '.join(shape)}{',' if len(shape) == 1 else ''}) {kind}" for shape, kind in shapes)
