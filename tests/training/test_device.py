"""Where batches are computed, and in which precision."""

import os
from collections import OrderedDict, UserDict, namedtuple
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from engine.errors import UserError
from engine.training.device import Device, best_precision, choose_device
from tests.support.gpu import NEEDS_GPU

Words = namedtuple("Words", "letters lengths")
Link = namedtuple("Link", "start to")
CPUINFO = Path("/proc/cpuinfo")

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@no_gpu
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is a GPU here")
def test_auto_is_the_cpu_where_there_is_no_gpu():
    assert choose_device("auto").device == torch.device("cpu")
    assert "no" in str(choose_device("auto")).split(";")[1]  # why no GPU is used


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_the_environment_hides_is_not_blamed_on_the_driver(monkeypatch, tmp_path, hidden):
    (tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert str(choose_device("cpu")).endswith(f'; CUDA_VISIBLE_DEVICES="{hidden}" keeps the GPU out of sight')


@no_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=f'"device": "{name}" cannot be used here: .'):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "", "meta device"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UserError, match="cannot be used here: it is auto, cpu, cuda, cuda:1 or mps"):
        choose_device(name)


@pytest.mark.skipif(not CPUINFO.exists(), reason="this system does not list what its CPU has")
def test_auto_precision_is_what_the_hardware_has():
    native = bool({"amx_tile", "avx512_bf16"} & set(CPUINFO.read_text().split()))
    assert best_precision(torch.device("cpu")) == ("bfloat16" if native else "float32")
    assert choose_device("cpu", "auto").precision == best_precision(torch.device("cpu"))


@pytest.mark.parametrize(("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_forward_passes_are_in_the_chosen_precision(precision, expected):
    with choose_device("cpu", precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_threads_are_set():
    before = torch.get_num_threads()
    try:
        choose_device("cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_nested_batch_keeps_its_form():
    batch = {
        "words": Words(torch.arange(3), [torch.ones(2)]),
        "more": OrderedDict(weights=torch.zeros(1)),
        "files": ["a", "b"],
        "pair": (torch.ones(1, 3, 4, 4), None, 7),
    }
    moved = choose_device("cpu", channels_last=True).move(batch)
    assert type(moved["words"]) is Words
    assert type(moved["more"]) is OrderedDict
    assert moved["files"] == ["a", "b"]
    assert moved["pair"][1:] == (None, 7)
    assert torch.equal(moved["words"].letters, torch.arange(3))
    assert torch.equal(moved["words"].lengths[0], torch.ones(2))


def test_every_tensor_is_moved():
    device = choose_device("cpu")
    elsewhere = type(device)(torch.device("meta"))
    words, pairs = elsewhere.move([Words(torch.arange(3), {"n": torch.ones(2)}), (torch.ones(1),)])
    assert {words.letters.device.type, words.lengths["n"].device.type, pairs[0].device.type} == {"meta"}


class Graph:
    """As the libraries of graphs have them: an object that moves itself."""

    def __init__(self, points):
        self.points = points

    def to(self, device):
        return Graph(self.points.to(device))


class Encoding(UserDict):
    """A mapping that would move its tensors in its own place, as those of tokenizers do."""

    def to(self, device):
        raise AssertionError


def test_what_moves_itself_is_left_to_that():
    elsewhere = Device(torch.device("meta"))
    packed = pack_sequence([torch.ones(3), torch.ones(2)])
    batch = {"graph": [Graph(torch.ones(2))], "packed": packed, "words": Encoding(ids=torch.ones(2)), "to": "a name"}
    moved = elsewhere.move(batch)
    assert moved["graph"][0].points.device.type == moved["words"]["ids"].device.type == "meta"
    assert (moved["packed"].data.device.type, moved["packed"].batch_sizes.device.type) == (
        "meta",
        "cpu",
    )  # as it must be
    assert batch["words"]["ids"].device.type == batch["graph"][0].points.device.type == "cpu"
    link = Link(torch.ones(1), torch.ones(1))  # which has a part called `to`
    assert {tensor.device.type for tensor in elsewhere.move(link)} == {"meta"}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(3),
        torch.ones(1).expand(4),
        torch.eye(3).to_sparse(),
        torch.ones(2, 3, 4, 4)[:, :, ::2],
        torch.ones(()),
    ],
    ids=["dense", "expanded", "sparse", "with gaps", "a number"],
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_tensors_of_every_form_arrive_as_they_are(tensor, device):
    moved = choose_device(device).move([tensor])[0]
    assert (moved.device.type, moved.layout) == (device, tensor.layout)
    assert torch.equal(moved.cpu().to_dense(), tensor.to_dense())


def test_channels_last_reaches_images_and_network():
    device = choose_device("cpu", channels_last=True)
    images, labels = device.move((torch.ones(2, 3, 4, 4), torch.ones(2, 5)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.is_contiguous()
    convolution = device.place(torch.nn.Conv2d(3, 4, 3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
