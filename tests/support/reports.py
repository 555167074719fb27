"""Experiments as their runs leave them, written in no time, for what only reads their folders."""

import base64
import json

from engine.experiment.entries import read_entries
from engine.report import write_report
from engine.report.content import make_content

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EVIL = "<img src=x onerror=alert(1)><b>bold"
RECORD = {
    "device": "cpu",
    "monitor": "accuracy",
    "mode": "max",
    "parameters": 71434,
    "command": "train.py --model_dir one",
    "started": "2026-11-20T10:00:00+0000",
    "git": {"commit": "a" * 40, "patch": "", "untracked": {}},
    "versions": {"python": "3.11.7", "torch": "2.15.0"},
    "system": "Linux x86_64, 2 cores",
    "code": {"model/net.py": "1111", "model/data_loader.py": "2222"},
    "data": {"files": 12, "bytes": 3456, "sha256": "ab" * 32},
}


def make(folder, accuracies, params=None, state="finished", reason=None, **record):
    """An experiment as `train.py` would leave it: a line per epoch, and what is recorded of the run."""
    folder.mkdir(parents=True)
    params = {"learning_rate": 0.001, "seed": 1, "num_epochs": len(accuracies), **(params or {})}
    rows = [
        {
            "epoch": epoch,
            "train_loss": 2.5 - value,
            "train_accuracy": value / 2,
            "val_loss": 2 - value,
            "val_accuracy": value,
            "learning_rate": params["learning_rate"],
            "seconds": 1.5 * epoch,
            "examples_per_second": 900.0,
        }
        for epoch, value in enumerate(accuracies, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "run.json").write_text(json.dumps({**RECORD, "params": params, **record}))
    status = {"state": state, "reason": reason, "epoch": len(rows), "host": "here", "pid": 1, "updated": 0}
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def search(parent):
    """Three learning rates with three seeds each, the middle one the best; one more that failed."""
    for rate, best in ((0.001, 0.7), (0.01, 0.9), (0.1, 0.8)):
        for seed in (1, 2, 3):
            accuracies = [best / 2, best - 0.1, best + seed / 100]
            make(parent / f"learning_rate={rate},seed={seed}", accuracies, {"learning_rate": rate, "seed": seed})
    make(parent / "broken", [0.1], {"learning_rate": 99.0}, state="failed", reason="UserError: the loss is NaN")
    return parent


def content_of(parent):
    """What the page of the experiments below a folder would hold; of one task, so that there is one table."""
    content, details = make_content(parent, read_entries(parent))
    entries = [{**one, **more} for one, more in zip(content["entries"], details["entries"], strict=True)]
    return {**content, **details, **content["tables"][0], "entries": entries}


def report(parent):
    """The page itself, written."""
    return write_report(parent, read_entries(parent))


def column(content, title, rows="groups"):
    """What stands under a heading, by the name of the row: a text, or a number to sort by and its text."""
    place = [one["title"] for one in content["columns"]].index(title)
    return {row["cells"][0]: row["cells"][place] for row in content[rows]}
