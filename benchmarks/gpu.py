"""What a GPU makes of it, all in one go: the loop, a profile, decoding, CIFAR-10 against the record's own script.

    python benchmarks/gpu.py --out results --data data/cifar10 [--record cifar10-airbench] [--parts loop,profile]
    python benchmarks/gpu.py --out results --data data/cifar10 --tiny       (tries all of it, on a CPU too)

`data/cifar10` has train/<class>/*.jpg and test/<class>/*.jpg. Each part is a process of its own, with a limit of its
own, and fails alone. All of it takes some twelve minutes on an H200 with 16 cores; where there is less time, name some
with --parts. Results: gpu.md and gpu.json in the folder, and gpu.log with all that was printed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = {  # with the seconds that each may take
    "machine": 30,
    "speed": 150,
    "record": 260,
    "loop": 120,
    "profile": 70,
    "decode": 30,
    "fast": 70,
    "transfer": 40,
    "precisions": 60,
    "averaging": 60,
    "tests": 150,
}
END = 5.0  # seconds for a process that is asked to end


class Row(NamedTuple):
    """One line of the results."""

    what: str
    measured: str
    goal: str = ""


def run_part(name: str, given: dict[str, Any], out: Path, limit: float) -> list[Row]:
    """The rows of a part, as far as it came within `limit` seconds, and a last one of how that ended."""
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    rows = scratch / "rows.jsonl"
    command = [sys.executable, "-m", "benchmarks.gpu_parts", name, json.dumps(given | {"scratch": str(scratch)}), rows]
    start = time.perf_counter()
    with open(out / "gpu.log", "a+", encoding="utf-8") as log:
        print(f"==== {name}", file=log, flush=True)
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            ended = "" if process.wait(limit) == 0 else f"failed: {last_line(out / 'gpu.log')}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit:.0f} s"
        finally:
            end_group(process)
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    shutil.rmtree(scratch, ignore_errors=True)
    seconds = f"{time.perf_counter() - start:.0f} s"
    return [*(Row(*json.loads(line)) for line in lines), Row("(the whole part)", ended or seconds)]


def end_group(process: subprocess.Popen[Any]) -> None:
    """Leave no process of a part behind."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END)


def last_line(log: Path) -> str:
    """What a process said last: the error, where it had one."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "without a word"


def as_markdown(results: dict[str, list[Row]]) -> str:
    """A table of all rows."""
    lines = ["| part | what | measured | goal |", "|---|---|---|---|"]
    for part, rows in results.items():
        for row in rows:
            cells = [cell.replace("|", "/") for cell in (part, *row)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--data", type=Path, help="CIFAR-10 as a folder of images")
    parser.add_argument("--record", type=Path, help="folder of the record's airbench94_muon.py")
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them, in this order: %(default)s")
    parser.add_argument("--minutes", type=float, default=12, help="for all parts together")
    parser.add_argument("--tiny", action="store_true", help="as little of everything as there can be")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts one after the other, and write down after each what is known by then."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    given = {key: value and str(value.resolve()) for key, value in vars(options).items() if key in ("data", "record")}
    deadline = time.perf_counter() + 60 * options.minutes
    results: dict[str, list[Row]] = {}
    for name in options.parts:
        left = deadline - time.perf_counter()
        limit = min(PARTS[name], left)
        is_late = left < END
        results[name] = (
            [Row("(the whole part)", "no time left")]
            if is_late
            else run_part(name, given | {"tiny": options.tiny}, options.out.resolve(), limit)
        )
        for row in results[name]:
            print(f"{name:10} {row.what}: {row.measured}{f'  (goal: {row.goal})' if row.goal else ''}", flush=True)
        (options.out / "gpu.md").write_text(as_markdown(results), encoding="utf-8")
        content = {part: [row._asdict() for row in rows] for part, rows in results.items()}
        (options.out / "gpu.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
