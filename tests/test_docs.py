"""What the pages say is what the code does."""

import json
import re

import pytest

from engine.hyperparameters import KEYS, KIND_NAMES
from tests.scripts import ROOT

PARTS = ("docs", "examples", "benchmarks")
README = (ROOT / "README.md").read_text()
ours = pytest.mark.skipif(
    not README.startswith("# A PyTorch project that works"), reason="README.md is that of your own project now"
)


def test_the_page_of_params_is_the_table():
    """On a difference, paste what this expects into docs/params.md."""
    rows = []
    for key in KEYS.values():
        meaning = key.meaning + (f": {', '.join(key.choices)}" if key.choices else "")
        rows.append(f"| `{key.name}` | {KIND_NAMES[key.kind]} | `{json.dumps(key.default)}` | {meaning} |")
    page = (ROOT / "docs" / "params.md").read_text()
    assert page.split("|---|---|---|---|\n")[1] == "\n".join(rows) + "\n"


@ours
def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(p for part in PARTS for p in (ROOT / part).rglob("*.md"))]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            deleted = target.split("/")[0] in ("benchmarks", "examples") and not (ROOT / target.split("/")[0]).exists()
            assert deleted or (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


@ours
def test_the_readme_is_short_and_opens_with_its_two_commands():
    lines = README.splitlines()
    assert len(lines) <= 200
    top = "\n".join(lines[:32])
    assert "pip install -r requirements.txt && python train.py --model_dir experiments/base" in top
    assert "pip install -r requirements-dev.txt && python -m pytest" in top


@ours
def test_ci_runs_the_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    for line in re.findall(r"```bash\n(pip install.*)\n```", README):
        assert line in ci
