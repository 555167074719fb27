"""PyTorch's errors that have a known cause, told as that cause."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.errors import UserError
from engine.training.metrics import Scores
from engine.wording import counted

TOO_SMALL = ("more than 1 spatial element", "Output size is too small", "Kernel size can't be greater than")
IGNORED_LABEL = -100  # what torch's cross-entropy leaves out
KNOWN = {  # what PyTorch says, and what to do about it
    r"(\S+) does not have a deterministic implementation": (
        r'\1 has no variant with the same bits each time: set "deterministic": false, or "device": "cpu"'
    ),
    r".*(not implemented for|Unsupported dtype|dtypes not supported. Got) '?(BFloat16|Half).*": (
        r'\g<0>: set "precision": "float32", or give this operation x.float()'
    ),
    r"No working C\+\+ compiler|Compiler: \S+ is not found": (
        r'"compile": true needs a C++ compiler, and there is none; install one (g++), or set "compile": false'
    ),
    r"killed by signal: Bus error": (
        r'no shared memory is left for the workers of the loader: docker run --shm-size 8g, or "num_workers": 0'
    ),
    r"killed by signal: Killed": (
        r"a worker of the loader was killed, most often as memory was full: take fewer num_workers"
    ),
}


@contextlib.contextmanager
def label_errors_explained(outputs: Any, labels: Any) -> Iterator[None]:
    """Turn what a loss raises for a label that the network has no output for into a `UserError` that names it."""
    try:
        yield
    except (IndexError, RuntimeError) as error:
        classes = outputs.shape[-1] if isinstance(outputs, Tensor) and outputs.dim() > 1 else None
        if classes is None or not isinstance(labels, Tensor) or labels.is_floating_point():
            raise
        wrong = labels[((labels < 0) | (labels >= classes)) & (labels != IGNORED_LABEL)]
        if len(wrong) == 0:
            raise
        raise UserError(
            f"label {int(wrong[0])} is outside the network's {classes} outputs, which are for labels 0 to {classes - 1}"
        ) from error


@contextlib.contextmanager
def batch_errors_explained(scores: Scores, batches: Any) -> Iterator[None]:
    """Turn what PyTorch raises for a batch that is too small, or that came without gradients, into a `UserError`.

    It names the batch by the `scores` that have been counted so far; `batches.examples` is how many it was asked for.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        examples = getattr(batches, "examples", None)
        if explanation := _explain_batch(str(error), examples, is_first=scores.batches == 0):
            count = scores.processes.count
            whose = f", of which this one of {count} processes has" if count > 1 else " of"
            size = f"{whose} {counted(examples, 'example')}" if examples else ""
            raise UserError(f"batch {scores.batches + 1}{size}: {explanation}") from error
        raise


@contextlib.contextmanager
def torch_errors_explained(batch_size: int) -> Iterator[None]:
    """Turn what PyTorch raises for want of memory, a compiler or a variant of an operation into a `UserError`."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if explanation := _explain(error, batch_size):
            raise UserError(explanation) from error
        raise


@contextlib.contextmanager
def download_errors_explained(what: str, remedy: str) -> Iterator[None]:
    """Turn what a download raises where there is no network into a `UserError` that says what else to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserError(f"{what} is not there and cannot be downloaded ({error}); {remedy}") from error


def _explain_batch(message: str, examples: int | None, is_first: bool) -> str | None:
    message = message.strip().partition("\n")[0]
    if "does not require grad" in message and not torch.is_grad_enabled():
        return "`step` asks for gradients in validation, where they are off: put that under `with torch.enable_grad():`"
    if message.startswith("element 0 of tensors does not require grad"):  # in `backward`, far from where it was lost
        return (
            "no gradient leads from the loss to a parameter: look in net.py for what cuts it off, such as `.detach()`, "
            "`.item()`, `argmax`, NumPy or `torch.no_grad()`"
        )
    if "more than 1 value per channel" in message:
        return (
            "batch norm cannot train on one value per channel: choose another batch_size, or have data_loader.py leave "
            "a last batch of one out (`drop_last=True`)"
        )
    if any(part in message for part in TOO_SMALL):
        return f"the network has made its inputs too small ({message}): larger inputs, or fewer strides and poolings"
    if examples == 1 and not is_first:
        return (
            f"the network fails on one example where it did not on more ({message}): `squeeze()` drops the batch's "
            "dimension, too, `squeeze(1)` does not; or choose another batch_size, or `drop_last=True` in data_loader.py"
        )
    return None


def _explain(error: Exception, batch_size: int) -> str | None:
    said = f"{error}\n{error.__cause__ or ''}"
    for pattern, explanation in KNOWN.items():
        if match := re.search(pattern, said):
            return match.expand(explanation)
    host_is_full = isinstance(error, MemoryError) or "can't allocate memory" in said
    if not host_is_full and not isinstance(error, torch.OutOfMemoryError):
        return None
    place = "this computer" if host_is_full else "the GPU"
    remedy = 'halve batch_size; in training, "accumulate": 2 then makes up for it'
    return f'out of memory on {place} with "batch_size": {batch_size}; {remedy}'
