"""Checkpoint files: written whole, read with `weights_only`, and loaded with errors that name the tensors."""

import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.errors import UserError
from engine.files import replacing

Checkpoint = dict[str, Any]
LAST, PREVIOUS, BEST = "last.pth.tar", "last.previous.pth.tar", "best.pth.tar"


def write_checkpoint(content: Checkpoint, is_best: bool, folder: Path, keep_previous: bool = False) -> None:
    """Write `last.pth.tar`, and first, if it is the best so far, the same as `best.pth.tar`.

    `keep_previous` keeps the last one before as well, as a crash of the machine may damage what was just written.
    """
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
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
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


def _damaged_part(path: Path) -> str | None:
    """The first part whose checksum is wrong: torch.load does not look. None for files from before they were zips."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def load_weights(model: nn.Module, weights: dict[str, Any], source: Path) -> None:
    """Put `weights` into the model. Raises a `UserError` that says which tensors differ if they are another's."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    reshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    parts = [("lacks", missing), ("has besides", unknown), ("has in another shape", reshaped)]
    differences = "; ".join(f"it {verb} {_some(names)}" for verb, names in parts if names)
    if differences:
        raise UserError(f"{source}: the checkpoint of another network than this one: {differences}")
    model.load_state_dict(weights)


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
