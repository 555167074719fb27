"""Random numbers that follow from where they are used: (seed, pass over the data, batch), so none need be saved."""

import os
import random
from typing import Any

import numpy as np
import torch


def use_deterministic_operations() -> None:
    """Have PyTorch use only operations that give the same bits each time, and raise an error that names another."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS counts as one that can't
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def seed_everything(seed: int) -> None:
    """Seed the global generators of PyTorch on every device, of NumPy and of `random`.

    Through the generators themselves, which takes microseconds: `torch.manual_seed` takes 100 times as long.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        for generator in torch.cuda.default_generators:
            generator.manual_seed(seed)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


def seed_generators(holder: Any, seed: int) -> None:
    """Seed each generator that an object keeps as an attribute, be it of PyTorch, of NumPy or of `random`."""
    for value in getattr(holder, "__dict__", {}).values():
        if isinstance(value, torch.Generator):
            value.manual_seed(seed)
        elif isinstance(value, np.random.Generator):
            value.bit_generator.state = type(value.bit_generator)(seed).state
        elif isinstance(value, np.random.RandomState):
            value.seed(seed & 0xFFFFFFFF)
        elif isinstance(value, random.Random):
            value.seed(seed)
