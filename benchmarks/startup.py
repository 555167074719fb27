"""How long the scripts take to answer, and to reach the first training step.

    python benchmarks/startup.py [--repeats 5]

`--help` and an error in params.json need no torch. The first step of experiments/base is held against the least that a
script of one's own pays: import torch, build one optimizer, make one step. Whole processes, in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("train.py", "evaluate.py", "search_hyperparams.py", "synthesize_results.py")
LEAST = """
import time, torch
model = torch.nn.Linear(64, 10)
optimizer = torch.optim.Adam(model.parameters())
model(torch.zeros(32, 64)).sum().backward()
optimizer.step()
print(time.time())
"""


def seconds(command: list[str], expected: int = 0) -> float:
    """Wall seconds of a whole process, which must end with the status expected."""
    start = time.perf_counter()
    status = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
    assert status == expected, f"{command} ended with {status}"
    return time.perf_counter() - start


def first_step(params: dict[str, object]) -> float:
    """Seconds from the start of `train.py` to its first step, after which it writes run.json."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.json").write_text(json.dumps(params))
        start = time.time()
        command = [sys.executable, "train.py", "--model_dir", folder]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        return os.stat(Path(folder, "data.json")).st_mtime - start


def least_first_step() -> float:
    """Seconds from the start of the least script to the end of its first step."""
    start = time.time()
    done = subprocess.run([sys.executable, "-c", LEAST], capture_output=True, text=True, check=True)
    return float(done.stdout) - start


def main() -> None:
    """Print the medians beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = range(parser.parse_args().repeats)
    for script in SCRIPTS:
        median = statistics.median(seconds([sys.executable, script, "--help"]) for _ in repeats)
        print(f"{script} --help: {median:.2f} s (goal 0.25)")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "params.json").write_text('{"learning_rate": "fast"}')
        wrong = [sys.executable, "train.py", "--model_dir", folder]
        print(f"error in params.json: {statistics.median(seconds(wrong, 2) for _ in repeats):.2f} s (goal 0.25)")

    base = json.loads((ROOT / "experiments/base/params.json").read_text())
    base |= {"num_epochs": 1}
    first_step(base)  # the cache exists from here on
    pairs = [(first_step(base), least_first_step()) for _ in repeats]
    ours, least = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"first step of experiments/base: {ours:.2f} s; a script of one's own: {least:.2f} s")
    print(f"difference: {statistics.median(a - b for a, b in pairs):.2f} s (goal 0.7)")


if __name__ == "__main__":
    main()
