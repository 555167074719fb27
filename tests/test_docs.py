"""What the pages say is what the code does."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from engine.hyperparameters import KEYS, KIND_NAMES
from engine.search.description import read_search
from tests.support.scripts import ROOT

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
    assert len(lines) <= 170
    top = "\n".join(lines[:32])
    assert "pip install -r requirements.txt && python train.py --model_dir experiments/base" in top
    assert "pip install -r requirements-dev.txt && python -m pytest" in top


@ours
def test_the_search_of_the_readme_is_one_and_its_group_is_of_that_search(tmp_path):
    (tmp_path / "params.json").write_text((ROOT / "experiments" / "base" / "params.json").read_text())
    (tmp_path / "search.json").write_text(re.search(r"Write `.*/search.json`:\n *```json\n(.*?)```", README, re.S)[1])
    space = read_search(tmp_path).space
    group = re.search(r'--parent_dir "experiments/search/(.*),seed=\*"', README)[1]
    values = dict(part.split("=") for part in group.split(","))
    assert list(values) == list(space)
    assert all(space[key].holds(json.loads(value)) for key, value in values.items())


@ours
def test_ci_runs_the_commands_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    for line in re.findall(r"```bash\n(pip install.*)\n```", README):
        assert line in ci


@ours
@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_ci_goes_on_where_no_browser_can_be_installed(tmp_path):
    (tmp_path / "tree" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "tree" / ".ci")
    for name in ("dirname", "rm"):  # all that this machine has: no apt-get, and no python3 either
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [shutil.which("bash"), tmp_path / "tree" / ".ci" / "run"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert "no browser could be installed" in done.stdout
    assert "python3: command not found" in done.stderr


@ours
def test_the_workflow_runs_once_for_each_change_and_may_only_read():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "on:\n  push:\n    branches: [main]\n  pull_request:\n" in workflow
    assert "\npermissions:\n  contents: read\n" in workflow
    assert "\n  cancel-in-progress: true\n" in workflow


@ours
@pytest.mark.parametrize("name", [".venv", ".venv-ci", "venv", "data/cifar10", "experiments/a/best.pth.tar"])
def test_git_ignores_what_comes_of_using_it(name):
    done = subprocess.run(["git", "check-ignore", "--no-index", "-q", f"{name}/file"], cwd=ROOT)
    assert done.returncode in (0, 128)  # 128 where this is no repository
