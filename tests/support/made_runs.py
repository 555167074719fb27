"""Folders as runs leave them, made in no time."""

import json
import time
from pathlib import Path
from typing import Any

Values = dict[str, Any]


def make_run(folder: Path, accuracies: list[Any] = (0.5, 0.9, 0.7), state: str = "finished", **changes: Any) -> Path:
    """The files of a run with these validation accuracies by epoch; a loss is 1 less that.

    `changes` are to `run.json`, but for `status`, `test` (scores) and `history` (rows).
    """
    folder.mkdir(parents=True, exist_ok=True)
    params = {"task": "tests.projects.points", "num_epochs": len(accuracies), **changes.pop("params", {})}
    status = {"state": state, "updated": time.time(), "host": "elsewhere", "pid": 1, **changes.pop("status", {})}
    test = changes.pop("test", None)
    rows = changes.pop("history", None) or [history_row(*pair) for pair in enumerate(accuracies, start=1)]
    run = {"params": params, "monitor": "accuracy", "mode": "max", "parameters": 12345, "code": {"net.py": "1"}}
    write(folder, "params.json", params)
    write(folder, "run.json", {**run, **changes})
    write(folder, "status.json", status)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if test:
        write(folder, "metrics_test_best.json", test)
    return folder


def history_row(epoch: int, accuracy: float | None) -> Values:
    """A line of metrics.jsonl."""
    loss = None if accuracy is None else 1 - accuracy
    scores = {"train_loss": 0.1, "val_accuracy": accuracy, "val_loss": loss}
    return {
        "epoch": epoch,
        **scores,
        "learning_rate": 0.1,
        "seconds": 2.0 * epoch,
        "examples_per_second": 100.0 * epoch,
    }


def make_seeds(parent: Path, name: str, scores: list[float], first: int = 1, **changes: Any) -> list[Path]:
    """A run per score, with seeds of their own."""
    params = changes.pop("params", {})
    return [
        make_run(parent / f"{name},seed={seed}", [score], params={**params, "seed": seed}, **changes)
        for seed, score in enumerate(scores, start=first)
    ]


def write(folder: Path, name: str, content: Any) -> None:
    """A JSON file of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
