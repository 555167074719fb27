"""What PyTorch raises for a known cause is told as that cause; each of these is PyTorch's own error."""

import os
import signal
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from engine.errors import UserError
from engine.training import torch_errors_explained


class Dying(Dataset):
    """A data set whose items end the process that asks for them."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), self.number)
        return index


def told(action):
    with pytest.raises(UserError) as raised, torch_errors_explained(batch_size=32):
        action()
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("operation", [torch.fft.fft, torch.linalg.inv, torch.linalg.svd, torch.linalg.qr])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_operation_without_a_variant_in_low_precision(operation, dtype):
    said = told(lambda: operation(torch.eye(3, dtype=dtype)))
    assert said.endswith('set "precision": "float32", or give this operation x.float()')
    assert ("BFloat16" if dtype == torch.bfloat16 else "Half") in said


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by signals")
@pytest.mark.parametrize(("number", "remedy"), [(signal.SIGBUS, "--shm-size"), (signal.SIGKILL, "fewer num_workers")])
def test_a_worker_that_is_killed(number, remedy):
    assert remedy in told(lambda: list(DataLoader(Dying(number), num_workers=1)))


@pytest.mark.skipif(sys.platform == "win32", reason="looks for the compiler of other systems")
def test_no_compiler():
    from torch._inductor.cpp_builder import cpp_compiler_search

    assert '"compile": false' in told(lambda: cpp_compiler_search(("/nowhere/g++",)))


def test_running_out_of_memory():
    assert told(lambda: torch.empty(2**60)).startswith('out of memory on this computer with "batch_size": 32')


def test_any_other_error_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), torch_errors_explained(batch_size=32):
        torch.ones(2, 3) @ torch.ones(2, 3)
