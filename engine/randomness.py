"""Random numbers that follow from where they are used: (seed, pass over the data, batch), so none need be saved."""

import os
import random

import numpy as np
import torch

MASK = 2**64 - 1


def derive(seed: int, *place: int) -> int:
    """A 64-bit seed for a place such as (pass, batch): neighbouring places get unrelated ones (SplitMix64).

    Mixing: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    state = seed & MASK
    for number in place:
        state = (state + 0x9E3779B97F4A7C15 * (number + 1)) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


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
