"""What the pages say is what the code does."""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest

from engine.hyperparameters import KEYS, KIND_NAMES
from engine.search.description import read_search
from tests.support.scripts import ROOT
from tests.test_structure import ROOMS, is_shipped

PARTS = ("docs", "examples", "benchmarks")
README = (ROOT / "README.md").read_text()
HOUSE = (ROOT / "engine" / "README.md").read_text()
DRAWING = HOUSE.split("```")[1]
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


def drawn_files():
    """What the drawing names in its first column: `data/feed.py`."""
    room = ""
    for line in DRAWING.splitlines()[2:]:
        for name in re.split(" {2,}", line.strip())[0].split():
            if name.endswith("/"):
                room = name
            else:
                yield room + name


def test_the_plan_of_the_house_names_each_file_once_and_nothing_else():
    """On a difference, give the file its line in engine/README.md, or take that out."""
    paths = [path for path in (ROOT / "engine").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    files = [path for path in paths if path.name not in ("__init__.py", "README.md")]
    assert sorted(drawn_files()) == sorted(path.relative_to(ROOT / "engine").as_posix() for path in files)


def test_the_plan_of_the_house_has_the_arrows_between_the_rooms():
    rooms = re.findall(r"^  (\w+)/ .*?(?:-> (.*))?$", DRAWING, re.M)
    assert {room: set(arrows.split(", ")) - {""} for room, arrows in rooms} == ROOMS


def test_the_plan_of_the_house_speaks_only_of_what_is_there():
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|js))`", HOUSE.split("```")[2])) - {"net.py"}
    assert [name for name in named if not ((ROOT / name).is_file() or (ROOT / "engine" / name).is_file())] == []


def test_a_task_imports_only_what_is_promised_to_tasks():
    table = (ROOT / "docs" / "task.md").read_text().split("## What a task may import")[1]
    rows = re.findall(r"\| `(engine\S+)` \| (.*) \|", table)
    promised = {(module, name) for module, names in rows for name in re.findall(r"`(\w+)`", names)}
    packages = ["examples", "tests/projects", *(["model"] if is_shipped else [])]
    for path in (path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("engine"):
                assert {(node.module, alias.name) for alias in node.names} <= promised, path
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("engine") for alias in node.names), path
    for module, name in promised:
        exec(f"from {module} import {name}")


@ours
def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), ROOT / "engine" / "README.md"]
    for page in [*pages, *(p for part in PARTS for p in (ROOT / part).rglob("*.md"))]:
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
    assert "no chromedriver could be installed" in done.stdout
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
