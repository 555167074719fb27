"""Checkpoint files: written whole, read with `weights_only`, and loaded with errors that name the tensors."""

import copy
import io
import logging
import os
import shutil
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from engine.errors import UserError
from engine.experiment import BEST, LAST, PREVIOUS
from engine.files import replacing
from engine.wording import some

Checkpoint = dict[str, Any]
READABLE = (Tensor, nn.Parameter, int, float, bool, complex, str, bytes, type(None))
NUMPY: list[Any] = [  # what arrays and numbers of NumPy are made of in a file, nothing of which runs code
    np.ndarray,
    np.dtype,
    np.zeros(1).__reduce__()[0],
    np.float64().__reduce__()[0],
    *{type(np.dtype(letter)) for letter in "?bBhHiIlLqQefdgFDGSU"},
    bytes,
]


def write_checkpoint(content: Checkpoint, is_best: bool, folder: Path, keep_previous: bool = False) -> None:
    """Write `last.pth.tar`, and first, if it is the best so far, the same as `best.pth.tar`.

    `keep_previous` keeps the last one before as well, as a crash of the machine may damage what was just written.
    """
    content = readable(content)
    last = folder / LAST
    with replacing(last, durable=True) as file:
        torch.save(content, file)
        file.flush()
        if is_best:
            with replacing(folder / BEST, durable=True) as best, open(file.name, "rb") as written:
                shutil.copyfileobj(written, best)
        if keep_previous and last.is_file():
            os.replace(last, folder / PREVIOUS)


def last_checkpoint(folder: Path) -> tuple[Path, Checkpoint]:
    """The newest checkpoint that is whole; a damaged one is set aside and the one before it taken."""
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            logging.warning(f"{error}; set aside as {path.name}.damaged, going on from the one before")
            path.replace(path.with_name(f"{path.name}.damaged"))
    raise UserError(f"{folder}: no checkpoint in it can be read; start over with --fresh")


def drop_previous(folder: Path) -> None:
    """Delete the checkpoint before the last one, which a finished run needs no more."""
    (folder / PREVIOUS).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of a checkpoint file, on the CPU. Raises `UserError` if there is none or it is damaged."""
    try:
        damaged = _damaged_part(path)
        content = None if damaged else _load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except Exception as error:  # what arbitrary bytes make of an unpickler can be anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: not a checkpoint that can be read ({reason})") from None
    if damaged:
        raise UserError(f"{path}: damaged: the checksum of {damaged} in it is wrong")
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f'{path}: not a checkpoint: it has no "state_dict"')
    return content


def _load(file: Any) -> Any:
    with torch.serialization.safe_globals(NUMPY):
        return torch.load(file, map_location="cpu", weights_only=True)


AS_THEY_ARE = (dict, OrderedDict, Counter)  # the kinds of dict that come back as what they were


def readable(value: Any, place: str = "") -> Any:
    """The value as `read_checkpoint` will give it back, dicts of other kinds as plain ones.

    Raises `UserError` for what a reader that runs no code cannot give back: it says where in the checkpoint that is.
    """
    kind = type(value)
    if isinstance(value, dict):
        copied = copy.copy(value) if kind in AS_THEY_ARE else {}
        for key, inner in value.items():
            copied[readable(key, place)] = readable(inner, f"{place}.{key}" if place else str(key))
        return copied
    if kind in (list, tuple):
        return kind([readable(inner, place) for inner in value])
    if kind not in READABLE and not _comes_back(value):
        raise UserError(
            f"{place}: a {kind.__name__} cannot be kept in a checkpoint, which holds tensors, arrays, numbers, text, "
            "and lists, tuples and dicts of them: have state_dict (or get_extra_state) give it as these"
        )
    return value


def other_dicts(value: Any) -> Iterator[str]:
    """The kinds of dict in a value of which `readable` makes plain ones: what else they know is lost."""
    if isinstance(value, dict):
        if type(value) not in AS_THEY_ARE:
            yield type(value).__name__
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            yield from other_dicts(inner)


def _comes_back(value: Any) -> bool:
    """Whether a checkpoint can hold the value, tried out."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        _load(file)
    except Exception:  # what an unknown type's own code raises can be anything
        return False
    return True


def _damaged_part(path: Path) -> str | None:
    """The first part whose checksum is wrong: torch.load does not look. None for files from before they were zips."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def load_weights(model: nn.Module, weights: dict[str, Any], source: Path) -> None:
    """Put `weights` into the model, as `load_state_dict` does it. Raises `UserError` if they are another network's."""
    try:
        model.load_state_dict(weights)
    except Exception as error:  # hooks and extra states of a network can raise anything
        reason = _differences(model.state_dict(), weights) or " ".join(str(error).split())
        raise UserError(f"{source}: the checkpoint of another network than this one: {reason}") from error


def _differences(own: dict[str, Any], weights: dict[str, Any]) -> str:
    """Which tensors differ, or nothing where none can be named."""
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    tensors = {name: value for name, value in own.items() if isinstance(value, Tensor) and not is_lazy(value)}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    others = {name: tuple(weights[name].shape) for name in shapes if isinstance(weights.get(name), Tensor)}
    reshaped = [f"{name} {shape} instead of {shapes[name]}" for name, shape in others.items() if shape != shapes[name]]
    parts = [("lacks", missing), ("has besides", unknown), ("has in another shape", reshaped)]
    return "; ".join(f"it {verb} {some(names)}" for verb, names in parts if names)
