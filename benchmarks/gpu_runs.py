"""What the parts of `gpu.py` share: what each is given, the sizes, runs of `train.py`, and what is read off them."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import evaluate
import train

ROOT = Path(__file__).resolve().parent.parent
CIFAR10 = ROOT / "examples" / "cifar10" / "experiments"
SEEDS = (1, 2, 3, 4, 5)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

MLP = {"task": "benchmarks.digits_task", "batch_size": 32, "learning_rate": 1e-3}

CONVNET = {
    "task": "benchmarks.gpu_task", "num_images": 20_000, "side": 32, "in_memory": False, "batch_size": 256,
    "learning_rate": 1e-3, "precision": "auto", "channels_last": True,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What a part is given."""

    scratch: Path
    data: Path | None = None  # with train/<class>/*.jpg and test/<class>/*.jpg
    record: Path | None = None  # the folder of airbench94_muon.py
    tiny: bool = False

    @property
    def photographs(self) -> Path:
        """The data, where they are needed."""
        if self.data is None:
            raise ValueError("needs --data")
        return self.data


def size_of(params: dict[str, Any], options: Options) -> dict[str, Any]:
    """The params, much smaller for a try."""
    return params | ({"num_images": 64, "batch_size": 16} if options.tiny and "num_images" in params else {})


def experiment_params(name: str, options: Options, **changes: Any) -> dict[str, Any]:
    """The params of an experiment of CIFAR-10, with the data that were given."""
    params = json.loads((CIFAR10 / name / "params.json").read_text())
    small = {"num_channels": 4, "compile": False, "max_train_batches": 3, "batch_size": 20, "num_epochs": 1}
    return params | {"data_dir": str(options.photographs.resolve())} | (small if options.tiny else {}) | changes


def speed_params(options: Options, **changes: Any) -> dict[str, Any]:
    """Those of `speed`."""
    return experiment_params("speed", options, **changes)


def run_here(folder: Path, params: dict[str, Any], **hooks: Any) -> dict[str, Any]:
    """`train.py` in this process, in a new folder; its best scores."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    return train.main(["--model_dir", str(folder)], **hooks)


def command(script: str, folder: Path, params: dict[str, Any] | None = None) -> float:
    """Seconds of a whole command. Raises if it fails."""
    if params is not None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(params))
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--model_dir", str(folder)], cwd=ROOT, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def history(folder: Path) -> list[dict[str, Any]]:
    """A line for each epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def training_seconds(folder: Path) -> tuple[float, float]:
    """What all epochs took to train, validation left out; and so many times the last one, which compiles nothing."""
    status, rows = json.loads((folder / "status.json").read_text()), history(folder)
    examples = json.loads((folder / "run.json").read_text())["params"]["batch_size"] * status["step"] / len(rows)
    times = [examples / row["examples_per_second"] for row in rows]
    return sum(times), len(times) * times[-1]


def tested(folder: Path) -> float:
    """The accuracy on test of the best epoch."""
    return float(evaluate.main(["--model_dir", str(folder)])["accuracy"])


def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """Seconds until all of it is done, on the device too."""
    synchronize()
    start = time.perf_counter()
    function(*arguments, **options)
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def mixed(is_mixed: bool) -> contextlib.AbstractContextManager[Any]:
    """The precision that `auto` is on a GPU of today."""
    return torch.autocast(DEVICE, torch.bfloat16) if is_mixed else contextlib.nullcontext()


def laid_out(images: torch.Tensor, is_mixed: bool) -> torch.Tensor:
    """The memory layout of `channels_last`, where that is asked for."""
    return images.to(memory_format=torch.channels_last) if is_mixed else images
