"""Where batches are computed and in which precision, and why a GPU that is there is not used."""

import contextlib
import os
import platform
import shutil
from abc import ABC
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from engine.data import to_device
from engine.errors import UserError
from engine.hyperparameters import Params
from engine.launcher import local_rank, process_count
from engine.nested import map_tensors
from engine.training.loss_scale import LossScale

INSTALL_HINT = "choose the right build at https://pytorch.org/get-started/locally"


class Movable(ABC):  # noqa: B024
    """Whatever has a method `to` and is no mapping, which would be moved in its place."""

    @classmethod
    def __subclasshook__(cls, kind: type) -> bool:
        return callable(getattr(kind, "to", None)) and not issubclass(kind, MutableMapping)


@dataclass(frozen=True)
class Device:
    """A device with the precision and the memory layout to use on it."""

    device: torch.device
    precision: str = "float32"
    channels_last: bool = False

    def move(self, batch: Any) -> Any:
        """The batch on this device, however nested; images `(B, C, H, W)` in the chosen memory layout.

        Objects with a `to` of their own, such as packed sequences and graphs, are moved by that.
        """
        return map_tensors(self._move, batch, (Tensor, Movable))

    def place(self, model: nn.Module) -> nn.Module:
        """The model on this device, in the chosen memory layout."""
        model = model.to(self.device)
        if not self.channels_last:
            return model
        refuse_lazy(model, "channels_last")
        return model.to(memory_format=torch.channels_last)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context for forward passes: nothing at all in float32."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def loss_scale(self) -> LossScale:
        """What scales the loss in training: nothing but in float16."""
        return LossScale(self.device.type, enabled=self.precision == "float16")

    def _move(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part.to(self.device)
        is_image = self.channels_last and part.dim() == 4
        return to_device(part, self.device, torch.channels_last if is_image else torch.preserve_format)

    def forget_peak(self) -> None:
        """Count the peak of the memory anew: what a notebook did before is not the run's."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory(self) -> int | None:
        """The most bytes that tensors have taken on the GPU since then, in this process; None where there is none."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None

    def __str__(self) -> str:
        """What the log says: `cpu (x86_64, 2 threads), float32`."""
        kind = self.device.type
        name = torch.cuda.get_device_name(self.device) if kind == "cuda" else platform.machine()
        if kind != "cpu":  # of several processes each has its own, by a number that says nothing
            return f"{kind if process_count() > 1 else self.device} ({name}), {self.precision}"
        return f"cpu ({name}, {torch.get_num_threads()} threads), {self.precision}; {why_no_gpu()}"


def device_for(params: Params) -> Device:
    """The device that `params` ask for; from now on, who reads them finds what is in effect in place of `auto`."""
    device = choose_device(params.device, params.precision, params.channels_last, params.threads)
    is_cuda = device.device.type == "cuda"
    params.provide(device=device.device, precision=device.precision, threads=torch.get_num_threads(), cuda=is_cuda)
    return device


def refuse_lazy(model: nn.Module, key: str) -> None:
    """Raise `UserError` if the network has layers that take their size from the first batch, which `key` cannot."""
    if any(map(is_lazy, model.parameters())):
        raise UserError(f'"{key}" needs a network whose sizes are known: give its lazy layers (`nn.Lazy...`) theirs')


def choose_device(
    name: str = "auto", precision: str = "float32", channels_last: bool = False, threads: int | None = None
) -> Device:
    """The device called `name`; `auto` takes a GPU if this torch can use one. Raises `UserError` if it is not there."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = _own_one(torch.device(_best_device()) if name == "auto" else _named_device(name))
    return Device(device, best_precision(device) if precision == "auto" else precision, channels_last)


def best_precision(device: torch.device) -> str:
    """`bfloat16` where the hardware itself computes in it; `float16` on GPUs that are fast in that alone."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (7, 0):  # from here on there are units for it: V100 and T4, then A100 and all later ones
            return "bfloat16" if capability >= (8, 0) else "float16"
        return "float32"
    if device.type == "cpu":
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return "bfloat16" if native else "float32"
    return "float32"


def why_no_gpu() -> str:
    """One sentence for the log on why no GPU is used, with what mends it."""
    driver = shutil.which("nvidia-smi") is not None
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if driver and seen is not None and seen.strip() in ("", "-1"):
        return f'CUDA_VISIBLE_DEVICES="{seen}" keeps the GPU out of sight'
    if torch.cuda.is_available():
        capability = "{}.{}".format(*torch.cuda.get_device_capability())
        return (
            f"the GPU ({torch.cuda.get_device_name()}, compute capability {capability}) is no longer supported by "
            f"torch {torch.__version__}: install an older build, see https://pytorch.org/get-started/previous-versions"
        )
    if driver and torch.version.cuda is None and torch.version.hip is None:
        return f"an NVIDIA driver is here, but torch {torch.__version__} is a build for the CPU only: {INSTALL_HINT}"
    if driver:
        return (
            f"an NVIDIA driver is here, but torch {torch.__version__} (CUDA {torch.version.cuda}) finds no GPU it can "
            f"use: update the driver, or {INSTALL_HINT}"
        )
    return "no GPU found"


def _best_device() -> str:
    if torch.cuda.is_available() and _supported():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() and process_count() == 1 else "cpu"


def _own_one(device: torch.device) -> torch.device:
    """The GPU of this process, where several run on this machine: each has one to itself."""
    if device.type == "cpu" or process_count() == 1:
        return device
    if device.type == "mps" or device.index is not None:
        raise UserError(f'"device": "{device}" is one GPU for {process_count()} processes; say "cuda", or "cpu"')
    if local_rank() >= torch.cuda.device_count():
        raise UserError(f'each process takes a GPU: --nproc_per_node {torch.cuda.device_count()}, or "device": "cpu"')
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())


def _supported() -> bool:
    """Whether this build of torch has code for the GPU: kernels of its generation, or older ones it can translate."""
    capability = torch.cuda.get_device_capability()
    architectures = [name.rsplit("_", 1)[-1].rstrip("af") for name in torch.cuda.get_arch_list()]
    oldest = min((int(number) for number in architectures if number.isdigit()), default=0)
    return torch.version.hip is not None or capability[0] * 10 + capability[1] >= oldest


def _named_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f'"device": "{name}" cannot be used here: it is auto, cpu, cuda, cuda:1 or mps') from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = why_no_gpu() if name.startswith("cuda") else str(error).splitlines()[0]
        raise UserError(f'"device": "{name}" cannot be used here: {reason}') from None
    return device
