"""Random numbers that follow from where they are used: (seed, pass over the data, batch), so none need be saved."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def use_deterministic_operations() -> None:
    """Have PyTorch use only operations that give the same bits each time, and raise an error that names another."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS counts as one that can't
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def generator_states() -> tuple[Any, Any, Any]:
    """The states of the global generators of `random`, NumPy and PyTorch (on the CPU), to be compared and put back."""
    of_numpy: Any = np.random.get_state()
    kind, keys, *rest = of_numpy
    return random.getstate(), (kind, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


def restore_generators(states: tuple[Any, Any, Any]) -> None:
    """Put the global generators back to what `generator_states` gave."""
    of_random, (kind, keys, *rest), of_torch = states
    random.setstate(of_random)
    np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.frombuffer(bytearray(of_torch), dtype=torch.uint8))


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back, after the block, the states of the global generators, the threads and the choice of operations."""
    states = generator_states()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        restore_generators(states)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.backends.cudnn.benchmark = benchmark


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
