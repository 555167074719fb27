"""A trained network as one file that runs without this repository: PyTorch's `.pt2`, or `.onnx`."""

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.hyperparameters import Params
from engine.nested import map_tensors, tensors_in

SUFFIXES = (".pt2", ".onnx")
NEEDED_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # sums come in another order where other programs add them up


class WithPreprocessing(nn.Module):
    """A network with what is done to its inputs before: raw inputs in, outputs out."""

    def __init__(self, model: nn.Module, transform: Callable[[Any, Params], Any] | None, params: Params) -> None:
        super().__init__()
        self.model, self.transform, self.params = model, transform, params

    def forward(self, inputs: Any) -> Any:
        """The outputs for a batch as `read_input` gives it."""
        return self.model(inputs if self.transform is None else self.transform(inputs, self.params))


def export(whole: WithPreprocessing, batch: Any, path: Path) -> float:
    """Write the network for batches of any size, and compare it with itself on a real batch, alone and together.

    Returns the largest difference. Raises `UserError` where it cannot be exported, or does something else afterwards.
    """
    check_format(path)
    whole.eval()
    number = len(next(tensors_in(batch)))
    if number < 2:
        raise UserError("--export compares several inputs, alone and together: name two at least, of one shape")
    partial = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        run = (_export_onnx if path.suffix == ".onnx" else _export_pt2)(whole, batch, partial)
        differences = [_difference(whole, run, _first(batch, count)) for count in (1, 2, number)]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return max(differences)


def _first(batch: Any, count: int) -> Any:
    return map_tensors(lambda tensor: tensor[:count], batch)


def check_format(path: Path) -> None:
    """Raise `UserError` for a file that nothing here can write."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"--export {path}: must end in {' or '.join(SUFFIXES)}")
    lacking = [name for name in NEEDED_FOR_ONNX if path.suffix == ".onnx" and not importlib.util.find_spec(name)]
    if lacking:
        raise UserError(f"--export {path}: needs {', '.join(lacking)}: pip install -r requirements-export.txt")


def _export_pt2(whole: nn.Module, batch: Any, path: Path) -> Callable[[Any], Any]:
    """Write with `torch.export`, and read it back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that share memory
        torch.export.save(_program(whole, batch), path)
    loaded = torch.export.load(path).module()
    return lambda inputs: loaded(inputs)


def _program(whole: nn.Module, batch: Any) -> torch.export.ExportedProgram:
    size = torch.export.Dim("batch", min=1)
    shapes = map_tensors(lambda tensor: {0: size} if tensor.dim() else None, batch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(whole, (batch,), dynamic_shapes=(shapes,))
    except Exception as error:  # torch.export raises many kinds, most with pages of advice
        reason = str(error).strip().splitlines()[0]
        what = "the network cannot be exported: torch.export does not follow its forward"
        raise UserError(f"{what} ({reason})") from error


def _export_onnx(whole: nn.Module, batch: Any, path: Path) -> Callable[[Any], Any]:
    """Write through `torch.onnx`, and run it in onnxruntime."""
    program = _program(whole, batch)
    logging.disable(logging.WARNING)  # it counts its own passes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(program, dynamo=True, verbose=False)
        assert written is not None
        written.save(path)
    logging.disable(logging.NOTSET)
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(inputs: Any) -> list[Tensor]:
        values = [tensor.numpy() for tensor in tensors_in(inputs)]
        return [torch.from_numpy(values) for values in session.run(None, dict(zip(names, values, strict=True)))]

    return run


@torch.no_grad()
def _difference(whole: nn.Module, run: Callable[[Any], Any], batch: Any) -> float:
    """By how much the outputs differ. Raises `UserError` if that is more than rounding."""
    largest = 0.0
    for wanted, given in zip(tensors_in(whole(batch)), tensors_in(run(batch)), strict=True):
        if wanted.shape != given.shape or not torch.allclose(wanted.float(), given.float(), RELATIVE, ABSOLUTE):
            number = len(next(tensors_in(batch)))
            raise UserError(f"the exported network gives other outputs than the trained one, on a batch of {number}")
        largest = max(largest, float((wanted.float() - given.float()).abs().max()))
    return largest
