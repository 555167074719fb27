"""How many faults `train.py --check` tells, of those tried, and how often it cries wolf.

python -m benchmarks.check
"""

import warnings
from collections.abc import Iterable

import torch

from engine.check import examine
from tests.check.cases import COLLECTION, DIGITS, HEALTHY, REGRESSION, STUDENTS, Case
from tests.check.test_faults import FAULTS
from tests.check.test_healthy import DEFAULTS, PROJECTS, project_of


def verdicts(case: Case) -> dict[str, str]:
    """What each check says of a project."""
    return {name: finding.verdict for name, finding in examine(case.project())}


def told(title: str, cases: Iterable[Case]) -> None:
    """Print how many of the faulty projects are told so, and name the others."""
    found = {case.name: set(verdicts(case).values()) & {"failed", "warned"} for case in cases}
    missed = [name for name, answers in found.items() if not answers]
    print(
        f"{title}: {len(found) - len(missed)} of {len(found)} told{', missed: ' if missed else ''}{', '.join(missed)}"
    )


def main() -> None:
    """All faults, then all that is healthy."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    told("faults of one function each", FAULTS)
    told("what students do", STUDENTS)
    told("kinds of the collection of DeepLocalize", [broken for broken, _ in COLLECTION])
    mended = [set(verdicts(case).values()) for _, case in COLLECTION]
    answers = [sum(answer in found for found in mended) for answer in ("failed", "warned")]
    print(f"their mended twins: {answers[0]} of {len(mended)} failed, {answers[1]} warned of")
    alarms = [
        case.name for case in (HEALTHY, REGRESSION, DIGITS) if {"failed", "warned"} & set(verdicts(case).values())
    ]
    for name, params in PROJECTS.items():
        project = project_of({**DEFAULTS, "task": f"tests.projects.{name}", **params})
        alarms += [name] if any(finding.verdict in ("failed", "warned") for _, finding in examine(project)) else []
    print(f"healthy projects: {len(alarms)} of {len(PROJECTS) + 3} alarmed {', '.join(alarms)}")


if __name__ == "__main__":
    main()
