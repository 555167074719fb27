"""The page `docs/from-the-tutorials.md`: what it names is there, what it calls dated is, and its lines work."""

import ast
import re
import shutil

import pytest
import torch
import torchvision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.autograd import Variable

from engine.hyperparameters import KEYS
from tests.support.scripts import ROOT

path = ROOT / "docs" / "from-the-tutorials.md"
if not path.is_file():
    pytest.skip("the page is not there", allow_module_level=True)
PAGE = path.read_text(encoding="utf-8")
STEPS, DATED = (
    [line for line in part.splitlines() if re.match(r"\| (?!what a tutorial|then )", line)]
    for part in PAGE.split("## What was dated there")
)
PLACE = r"`([\w.]+)` in (?:\[[^\]]+\]\(\.\./([^)]+)\)|`([^`]*/[^`]*)`)"  # `train` in [train.py](../train.py)
PLACES = sorted({(name, linked or quoted) for name, linked, quoted in re.findall(PLACE, PAGE)})
SHIPPED = '"""Network, loss and metrics for classifying images."""'
net = ROOT / "model" / "net.py"
is_shipped = net.is_file() and net.read_text(encoding="utf-8").startswith(SHIPPED)  # else it is the user's


def names_in(tree):
    """The functions, classes, methods and values that a module defines: `Scores`, `Scores.compute`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner}" for inner in names_in(node))
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize(("name", "file"), PLACES, ids=lambda part: part.replace("/", "."))
def test_what_is_named_is_there(name, file):
    zone = file.split("/")[0]
    if (zone == "model" and not is_shipped) or (zone == "examples" and not (ROOT / file).parent.is_dir()):
        pytest.skip("a project may delete that")
    assert name in set(names_in(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


def test_each_step_has_its_place():
    assert len(STEPS) > 25
    assert [row for row in STEPS if not re.search(PLACE, row)] == []


@pytest.mark.skipif(not is_shipped, reason="model/ is not the shipped one")
def test_each_key_is_read_by_somebody():
    source = "".join((ROOT / "model" / name).read_text(encoding="utf-8") for name in ("net.py", "data_loader.py"))
    keys = set(re.findall(r'"(\w+)": ', PAGE))
    assert len(keys) > 15
    assert [key for key in keys if key not in KEYS and f'Key("{key}"' not in source] == []


def test_the_page_is_short():
    assert len(PAGE.splitlines()) <= 120


def raises_text():
    raise ("File doesn't exist")  # noqa: B016


GONE = {
    "a loss has no dimension": (IndexError, lambda: torch.tensor(1.0).data[0]),
    "async is a word of Python": (SyntaxError, lambda: compile("x.cuda(async=True)", "page", "eval")),
    "RandomSizedCrop": (AttributeError, lambda: torchvision.transforms.RandomSizedCrop),
    "Scale": (AttributeError, lambda: torchvision.transforms.Scale),
    "dataiter.next()": (AttributeError, lambda: iter(torch.utils.data.DataLoader([1])).next),
    "text cannot be raised": (TypeError, raises_text),
}


@pytest.mark.parametrize(("error", "call"), GONE.values(), ids=GONE)
def test_what_is_gone_is_gone(error, call):
    with pytest.raises(error):
        call()


WARNED = {
    "volatile": lambda: Variable(torch.ones(1), volatile=True),
    "pretrained": lambda: torchvision.models.squeezenet1_0(pretrained=False),
    "size_average": lambda: nn.MSELoss(size_average=False),
    "clip_grad_norm": lambda: nn.utils.clip_grad_norm([torch.ones(1, requires_grad=True)], 1),
    "xavier_uniform": lambda: nn.init.xavier_uniform(torch.ones(2, 2)),
}


@pytest.mark.parametrize(("name", "call"), WARNED.items(), ids=WARNED)
def test_what_is_deprecated_warns(name, call):
    assert any(name in row for row in DATED)
    with pytest.warns((UserWarning, FutureWarning), match="removed|deprecated"):
        call()


def test_a_tensor_is_a_variable():
    assert type(Variable(torch.ones(1))) is torch.Tensor


def test_the_lines_for_the_graph_draw_it(tmp_path, script):
    (diff,) = re.findall(r"^```diff train\.py\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    old, new = ("".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in f" {sign}") for sign in "-+")
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    assert source.count(old) == 1
    for name in ("evaluate.py", "utils.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "train_with_graph.py").write_text(source.replace(old, new), encoding="utf-8")
    shutil.copytree(ROOT / "tests" / "projects" / "points", tmp_path / "model")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "params.json").write_text('{"num_epochs": 1, "max_train_batches": 1}')
    done = script("train_with_graph", "--model_dir", "run", cwd=tmp_path)
    assert done.status == 0, done.stderr
    boards = [EventAccumulator(str(file)).Reload() for file in (tmp_path / "run" / "tensorboard").glob("events*")]
    assert any(board.Tags()["graph"] for board in boards)
