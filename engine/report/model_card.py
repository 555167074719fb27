"""A card for a network that leaves the house: what it is, what it was trained on, how good it is, what to mind."""

import json
from pathlib import Path
from typing import Any

from engine.experiment import BEST_SCORES, TEST_SCORES, Experiment, read_object
from engine.files import replacing
from engine.hyperparameters import Params, Values

UNKNOWN = "*to be filled in*"


def write_model_card(path: Path, experiment: Experiment, params: Params, file: str, inputs: str) -> None:
    """Write the card of a network that was exported to `file` and takes `inputs`."""
    record = experiment.run()
    sections = {
        "What it is": [f"`{file}`: takes {inputs}.", f"Task `{params.task}`, experiment `{experiment.folder.name}`."],
        "Intended use": [UNKNOWN],
        "Training data": _data(record, params),
        "Scores": _scores(experiment, record),
        "Hyperparameters": ["```json", json.dumps(record.get("params", {}), indent=1, default=str), "```"],
        "Limits": ["It knows what its training data show; inputs of another kind get an answer all the same.", UNKNOWN],
        "Where it comes from": _provenance(record),
    }
    text = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    with replacing(path) as out:
        out.write(f"# Model card\n\n{text}\n".encode(errors="backslashreplace"))


def _data(record: Values, params: Params) -> list[str]:
    classes = getattr(params, "classes", None)
    told = [f"- `{params.data_dir}`"]
    if isinstance(classes, list | tuple):
        told.append(f"- {len(classes)} classes: {', '.join(map(str, classes))}")
    if isinstance(record.get("data"), dict):
        told += [f"- {key}: {value}" for key, value in record["data"].items() if isinstance(value, str | int)]
    return told


def _scores(experiment: Experiment, record: Values) -> list[str]:
    """A row for each score of val and test, with how many examples it is of, and the interval of an accuracy."""
    rows = ["| split | score | value | examples | 95 % interval |", "|---|---|---|---|---|"]
    looks = [look for look in record.get("evaluations", []) if look.get("checkpoint") == "best"]
    seen = {look["split"]: look.get("examples") for look in looks}
    for split, name in (("val", BEST_SCORES), ("test", TEST_SCORES)):
        scores = read_object(experiment.file(name), []) if experiment.file(name).is_file() else {}
        for score, value in scores.items():
            rows.append(f"| {split} | {score} | {value:.4g} | {_row(score, value, seen.get(split))} |")
    if not any(row.startswith("| test") for row in rows):
        rows += ["", f"It was not tested: `python evaluate.py --model_dir {experiment.folder}` does."]
    return [*rows, "", "The weights were chosen by the scores of val, which are therefore a little too good."]


def _row(score: str, value: float, number: Any) -> str:
    """How many examples, and Wilson's interval where the score is a share of them."""
    if not isinstance(number, int):
        return " | "
    if score != "accuracy":
        return f"{number} | "
    from scipy.stats import binomtest

    low, high = binomtest(round(value * number), number).proportion_ci(method="wilson")
    return f"{number} | {low:.3f} to {high:.3f}"


def _provenance(record: Values) -> list[str]:
    """The commit, with whether it was changed, and on what it was trained."""
    git = record.get("git") or {}
    told = {
        "commit": git.get("commit") and f"{git['commit']}{' with changes' if git.get('patch') else ''}",
        "trained": record.get("started"),
        "device": record.get("device"),
        "command": record.get("command") and f"`{record['command']}`",
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
    }
    return [f"- {name}: {value}" for name, value in told.items() if value] or [UNKNOWN]
