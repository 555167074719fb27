"""The language example beside nanoGPT's own script: the same text, network, steps and schedule; loss and time.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/nanogpt.py --nanogpt nanoGPT --text input.txt [--repeats 3] [--num_steps 2000]

Both are whole processes, run in turn. The setting is that of nanoGPT's README for a CPU: 4 layers, 4 heads, 128 wide,
64 characters, batches of 12. Both evaluate four times. The losses are of the same stretches of the same text. Beside
the time stands the processor time of all threads, which says more on a machine that has other things to do.
"""

import argparse
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch.nn import functional

from engine.data import TensorBatches
from engine.hyperparameters import load_params
from examples.language.data_loader import fetch_dataloader
from examples.language.net import Net
from utils import load_checkpoint

EXPERIMENT = ROOT / "examples" / "language" / "experiments" / "small"
EVALUATIONS = 4


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    processor: float  # seconds of all its threads

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s ({self.processor:.1f} s of processors)"


def timed(command: list[str], folder: Path) -> Cost:
    """What a command takes. Raises if it fails."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - start, processor)


def run_ours(scratch: Path, text: Path, num_steps: int, number: int) -> tuple[Cost, Path]:
    """`train.py` on a new experiment: its cost and its folder."""
    folder = scratch / f"ours{number}"
    settings = {"data_dir": text, "steps_per_epoch": num_steps // EVALUATIONS, "seed": number}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "train.py", "--model_dir", str(folder), "--from", str(EXPERIMENT), *words]
    return timed(command, ROOT), folder


def run_theirs(scratch: Path, nanogpt: Path, num_steps: int, number: int) -> tuple[Cost, Path]:
    """nanoGPT's `train.py`: its cost and its checkpoint; its seed is one number in its source."""
    source = (nanogpt / "train.py").read_text().replace("manual_seed(1337 ", f"manual_seed({number} ")
    for name in ("model.py", "configurator.py"):
        (scratch / name).write_text((nanogpt / name).read_text())
    (scratch / "train.py").write_text(source)
    settings = {
        "out_dir": f"theirs{number}", "dataset": "text", "device": "cpu", "compile": False, "dtype": "float32",
        "eval_interval": num_steps // EVALUATIONS, "eval_iters": 20, "log_interval": 100, "block_size": 64,
        "batch_size": 12, "n_layer": 4, "n_head": 4, "n_embd": 128, "max_iters": num_steps, "dropout": 0.0,
        "lr_decay_iters": num_steps, "learning_rate": 1e-3, "min_lr": 1e-4, "beta2": 0.99, "warmup_iters": 100,
        "gradient_accumulation_steps": 1, "always_save_checkpoint": True,
    }  # fmt: skip
    words = [f"--{key}={value}" for key, value in settings.items()]
    return timed([sys.executable, "train.py", *words], scratch), scratch / f"theirs{number}" / "ckpt.pt"


def write_theirs(scratch: Path, params_dir: Path, text: Path) -> TensorBatches:
    """The same tokens in the files that nanoGPT reads; returns the stretches that both are scored on."""
    params = load_params(params_dir / "params.json")
    loaders = fetch_dataloader(["train", "val"], text, params)
    folder = scratch / "data" / "text"
    folder.mkdir(parents=True)
    for split, batches in loaders.items():
        inputs, _ = batches.tensors
        inputs[:: 64 if split == "train" else 1].flatten().numpy().astype(np.uint16).tofile(folder / f"{split}.bin")
    with (folder / "meta.pkl").open("wb") as file:
        pickle.dump({"vocab_size": len(params.characters)}, file)
    return loaders["val"]


@torch.no_grad()
def loss_of(model: torch.nn.Module, batches: TensorBatches, theirs: bool = False) -> float:
    """The mean cross-entropy over all stretches."""
    total = count = 0.0
    for inputs, labels in batches:
        outputs = model(inputs.long(), labels.long())[0] if theirs else model(inputs.long())
        total += functional.cross_entropy(outputs.flatten(0, 1), labels.flatten().long(), reduction="sum").item()
        count += labels.numel()
    return total / count


def load_ours(folder: Path, text: Path) -> torch.nn.Module:
    """The network after the last step."""
    params = load_params(folder / "params.json")
    fetch_dataloader(["val"], text, params)
    model = Net(params).eval()
    load_checkpoint(str(folder / "last.pth.tar"), model)
    return model


def load_theirs(scratch: Path, path: Path) -> torch.nn.Module:
    """The network after the last step, by nanoGPT's own class."""
    sys.path.insert(0, str(scratch))
    from model import GPT, GPTConfig

    content = torch.load(path, weights_only=True)
    model = GPT(GPTConfig(**content["model_args"])).eval()
    model.load_state_dict(content["model"])
    return model


def main() -> None:
    """Run both sides in turn, and print the losses and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a clone of nanoGPT")
    parser.add_argument("--text", type=Path, required=True, help="a text, such as tiny Shakespeare")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--num_steps", type=int, default=2000)
    options = parser.parse_args()
    costs = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        text = scratch / "texts"
        text.mkdir()
        (text / "text.txt").write_text(options.text.read_text())
        batches = write_theirs(scratch, EXPERIMENT, text)
        for number in range(1, options.repeats + 1):
            their_cost, path = run_theirs(scratch, options.nanogpt, options.num_steps, number)
            our_cost, folder = run_ours(scratch, text, options.num_steps, number)
            costs.append((our_cost, their_cost))
            ours = loss_of(load_ours(folder, text), batches)
            theirs = loss_of(load_theirs(scratch, path), batches, theirs=True)
            print(f"seed {number}: ours {ours:.4f} in {our_cost}, nanoGPT {theirs:.4f} in {their_cost}", flush=True)
    for name in Cost._fields:
        ratios = [getattr(ours, name) / getattr(theirs, name) for ours, theirs in costs]
        print(f"{name}, ours / nanoGPT: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
