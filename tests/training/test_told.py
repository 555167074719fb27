"""What cannot be kept, trained or called as it is: one line each, at the first step, and nothing is left behind."""

import itertools
import json
import re
import shutil

import pytest
import torch
from torch import nn

import evaluate
import train
from engine.errors import UserError
from engine.training import import_anew
from engine.training.unsaved import Unsaved
from tests.support.folders import checkpoint, contents, history, read
from utils import load_experiment

names = (f"told_{number}" for number in itertools.count())


@pytest.fixture
def run(experiment, variant, monkeypatch, capsys):
    """Trains the points with other code, two epochs: `run(net="...", batch_size=8)`; folder and output."""

    def train_variant(net="", data_loader="", **params):
        name = next(names)
        monkeypatch.syspath_prepend(variant(name, net=net, data_loader=data_loader))
        values = {"task": name, "data_dir": "none", "learning_rate": 0.01, "num_epochs": 2, "device": "cpu"}
        folder = experiment(name, **{**values, **params})
        train.main(["--model_dir", str(folder)])
        return folder, capsys.readouterr().out

    return train_variant


def refused(run, tmp_path, line, **code):
    """The run ends in one line, and leaves nothing but its params if it ends before its first step."""
    with pytest.raises(UserError, match=line):
        run(**code)
    (folder,) = tmp_path.glob("told_*")
    return folder


IMPORTS = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


# Batches that are too small


def net_of(layers, before="inputs"):
    return f"""{IMPORTS}
class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.layers = nn.Sequential({layers})

    def forward(self, inputs):
        return self.layers({before})
"""


PICTURE = "inputs[:, :, None, None]"


@pytest.mark.parametrize(
    ("net", "batch_size", "line"),
    [
        (
            net_of("nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)"),
            199,
            "batch 2 of 1 example: batch norm",
        ),
        (net_of("nn.Linear(2, 3)", "inputs.squeeze()"), 199, r"batch 2 of 1 example: .*one example.*`squeeze\(\)`"),
        (
            net_of("nn.InstanceNorm2d(2, affine=True), nn.Flatten()", PICTURE),
            16,
            "batch 1 of 16 examples: .*too small .*spatial",
        ),
        (
            net_of("nn.Conv2d(2, 3, 1), nn.MaxPool2d(2), nn.Flatten()", PICTURE),
            16,
            "batch 1 of 16 examples: .*too small .*Output size",
        ),
        (
            net_of("nn.Conv2d(2, 3, 3), nn.Flatten()", PICTURE),
            16,
            "batch 1 of 16 examples: .*too small .*Kernel",
        ),
    ],
    ids=["batch norm", "squeeze", "instance norm", "pooling", "convolution"],
)
def test_a_batch_that_is_too_small_is_named(run, tmp_path, net, batch_size, line):
    refused(run, tmp_path, line, net=net, batch_size=batch_size)


STEP_THAT_DERIVES = """
def step(model, batch, params):
    inputs, labels = batch
    inputs = inputs.clone().requires_grad_()
    {context}:
        outputs = model(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        loss = F.cross_entropy(outputs, labels) + slope.square().mean()
    return loss, outputs, labels
"""


def test_gradients_wanted_in_validation_are_one_line_and_work_where_they_are_on(run, tmp_path):
    step = IMPORTS + STEP_THAT_DERIVES
    folder, _ = run(net=step.format(context="with torch.enable_grad()"))
    assert history(folder)[-1]["val_loss"] < history(folder)[0]["val_loss"]
    with pytest.raises(UserError, match=r"`step` asks for gradients in validation.*enable_grad"):
        run(net=step.format(context="if True"))


@pytest.mark.parametrize("cut", [".detach()", ".argmax(dim=1, keepdim=True).float().expand(-1, 3)"])
def test_a_loss_that_no_gradient_leads_from_is_one_line(run, tmp_path, cut):
    net = f"{IMPORTS}def loss_fn(outputs, labels):\n    return F.cross_entropy(outputs{cut}, labels)"
    refused(run, tmp_path, "^batch 1 of 32 examples: no gradient leads from the loss to a parameter", net=net)


# What no checkpoint holds


def test_what_changes_outside_of_checkpoints_is_told_once(run):
    net = f"""{IMPORTS}import random
class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.first, self.layer = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 3)
        self.register_buffer("still", torch.zeros(2), persistent=False)
        self.register_buffer("seen", torch.zeros(1), persistent=False)
        self.register_buffer("taken", torch.zeros(1), persistent=False)
        self.register_buffer("saved", torch.zeros(1))
        self.random = random.Random(1)

    def forward(self, inputs):
        self.seen += len(inputs)
        self.saved += len(inputs)
        self.taken = self.taken + 1
        if self.training and self.saved > 400:
            self.first.requires_grad_(True)
        return self.layer(self.first(inputs))

def configure_optimizer(model, params):
    return torch.optim.SGD(model.layer.parameters(), lr=0.1)
"""
    _, said = run(net=net, num_epochs=4)
    lines = [line for line in said.splitlines() if line.startswith("Net: ")]
    assert len(lines) == 4
    assert re.match("Net: seen, taken is no persistent buffer, and changes", lines[0])
    assert re.match("Net: saved changes in validation too", lines[1])
    assert re.match("Net: random is a random generator", lines[2])
    assert re.match("Net: first.weight, first.bias has been thawed and learns nothing", lines[3])


QUANTIZED = f"""{IMPORTS}import torch.ao.quantization as quantization
class Net(nn.Sequential):
    def __init__(self, params):
        super().__init__(quantization.QuantStub(), nn.Linear(2, 3), quantization.DeQuantStub())
        self.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        quantization.prepare_qat(self.train(), inplace=True)
    def train(self, mode=True):
        return super().train(mode).apply({{switch}})
"""


@pytest.mark.parametrize("kept", [False, True])
def test_a_network_that_is_changed_by_its_validation_is_told_and_one_that_is_kept_scores_the_same(run, kept):
    observing = "quantization.enable_observer if mode else quantization.disable_observer"
    folder, said = run(net=QUANTIZED.format(switch=observing if kept else "lambda module: None"))
    told = said.count("changes in validation too, so that a checkpoint may score otherwise")
    evaluate.main(["--model_dir", str(folder), "--split", "val", "--restore_file", "last"])
    again = read(folder, "metrics_val_last.json") == read(folder, "metrics_val_last_weights.json")
    assert (told, again) == ((0, True) if kept else (1, False))


OWN_OPTIMIZER = f"""{IMPORTS}from torch.optim import SGD, Optimizer
class Wrapped(Optimizer):
    def __init__(self, inner):
        self.inner, self.param_groups, self.state = inner, inner.param_groups, inner.state
        self.defaults = inner.defaults
    def step(self, closure=None):
        return self.inner.step(closure)
    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad()
    def state_dict(self):
        return self.inner.state_dict()
    def load_state_dict(self, state):
        {{load}}

def configure_optimizer(model, params):
    return Wrapped(SGD(model.parameters(), lr=0.1, momentum=0.9))
"""


def test_an_optimizer_that_would_not_load_its_state_ends_the_run_at_its_first_step(run, tmp_path):
    net = OWN_OPTIMIZER.format(load="super().load_state_dict(state)")  # which has not been prepared by __init__
    folder = refused(run, tmp_path, r"Wrapped does not load what its state_dict\(\) gives.*AttributeError", net=net)
    assert set(contents(folder)) == {"params.json"}


def test_an_optimizer_around_another_is_trained_and_its_state_left_alone(run):
    """Once the one inside has loaded a state, its groups are not those that a schedule changes any more."""
    falling = "configure_scheduler = lambda o, *_: (torch.optim.lr_scheduler.ExponentialLR(o, 0.9), 'step')\n"
    folder, _ = run(net=OWN_OPTIMIZER.format(load="self.inner.load_state_dict(state)") + falling)
    plain, _ = run(
        net=f"{IMPORTS}{falling}configure_optimizer = lambda m, _: torch.optim.SGD(m.parameters(), 0.1, 0.9)"
    )
    assert history(folder) == history(plain)


def test_layers_that_the_optimizer_is_given_as_they_are_thawed_are_not_told():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 3))
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    unsaved = Unsaved(model, [optimizer])
    model.requires_grad_(True)
    optimizer.add_param_group({"params": [model[0].weight]})
    assert [line.split(" has ")[0] for line in unsaved.news()] == ["Net: 0.bias"]
    assert unsaved.news() == []


def test_a_plain_network_is_told_nothing(run):
    assert "Net: " not in run()[1]


def test_what_a_checkpoint_cannot_hold_ends_the_run_at_its_first_step(run, tmp_path):
    net = f"""{IMPORTS}
class Net(nn.Linear):
    def __init__(self, params):
        super().__init__(2, 3)
    def get_extra_state(self):
        return {{"shape": print}}
    def set_extra_state(self, state):
        pass
"""
    folder = refused(
        run, tmp_path, "state_dict._extra_state.shape: a builtin_function_or_method cannot be kept", net=net
    )
    assert set(contents(folder)) == {"params.json"}


GROWING = f"""{IMPORTS}
class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.layer, self.batches = nn.Linear(2, 3), 0
        self.register_buffer("memory", torch.zeros(0, 2))

    def forward(self, inputs):
        self.batches += 1
        if self.batches > {{after}}:
            {{change}}
        return self.layer(inputs)
    {{loading}}
"""
REMEMBERS = "self.memory = torch.cat([self.memory, inputs.detach()])"


@pytest.mark.parametrize(
    ("change", "after", "name"),
    [
        (REMEMBERS, 0, "memory"),
        (REMEMBERS, 3, "memory"),
        ("self.late = nn.Linear(2, 3)", 0, "late.weight, late.bias"),
        ("self.layer = nn.Sequential(self.layer)", 0, "layer.weight, layer.bias, layer.0.weight and 1 more"),
    ],
    ids=["a buffer that grows", "later in the run", "a layer made in forward", "a layer that is wrapped"],
)
def test_a_network_that_would_not_load_its_own_checkpoint_is_told_before_one_is_written(
    run, tmp_path, change, after, name
):
    net = GROWING.format(change=change, after=after, loading="")
    folder = refused(run, tmp_path, f"Net: {name} came, went or took another shape in training", net=net)
    assert not list(folder.glob("*.pth.tar"))


def test_a_network_that_loads_what_has_grown_by_itself_is_left_to_it(run):
    loading = """
    def _load_from_state_dict(self, state, prefix, *others):
        self.memory = torch.zeros_like(state[prefix + "memory"])
        super()._load_from_state_dict(state, prefix, *others)
"""
    folder, _ = run(net=GROWING.format(change=REMEMBERS, after=0, loading=loading))
    evaluate.main(["--model_dir", str(folder), "--split", "val"])
    assert read(folder, "metrics_val_best.json") == read(folder, "metrics_val_best_weights.json")


@pytest.mark.parametrize("rate", ["torch.tensor(0.01)", "numpy.float32(0.01)", "numpy.float64(0.01)"])
def test_a_learning_rate_of_any_kind_of_number_trains_and_comes_back(run, rate):
    net = f"""{IMPORTS}import numpy
def configure_optimizer(model, params):
    return torch.optim.Adam(model.parameters(), lr={rate})
"""
    folder, _ = run(net=net)
    assert [row["learning_rate"] for row in history(folder)] == pytest.approx([0.01, 0.01])
    evaluate.main(["--model_dir", str(folder), "--split", "val"])
    assert read(folder, "metrics_val_best.json") == read(folder, "metrics_val_best_weights.json")


# What the loader gives


def test_a_validation_stream_that_gives_nothing_is_told_before_anything_is_trained(run, tmp_path):
    loader = """import torch
from torch.utils.data import DataLoader, IterableDataset
class Nothing(IterableDataset):
    def __iter__(self):
        return iter(())
plain = fetch_dataloader
def fetch_dataloader(types, data_dir, params):
    return {**plain(types, data_dir, params), "val": DataLoader(Nothing(), 4)}
"""
    folder = refused(run, tmp_path, "the val split gave no batch", data_loader=loader)
    assert set(contents(folder)) == {"params.json"}


# What the loader learns


def test_what_the_loader_learns_comes_back_as_it_was_set(run):
    loader = """import numpy, torch
learned = {"size": (2, 3), "mean": torch.tensor([0.5, 1.0]), "names": {0: "top", 1: "left"}, "kinds": {"a"},
           "scale": numpy.float32(0.1), "table": numpy.arange(4), "large": torch.zeros(2000),
           "graph": torch.eye(2).to_sparse()}
plain = fetch_dataloader
def fetch_dataloader(types, data_dir, params):
    if "train" in types:
        for name, value in learned.items():
            setattr(params, name, value)
    else:
        for name, value in learned.items():
            there = getattr(params, name)
            assert type(there) is type(value) and repr(there) == repr(value), (name, there)
    return plain(types, data_dir, params)
"""
    folder, _ = run(data_loader=loader)
    evaluate.main(["--model_dir", str(folder)])
    shown = read(folder, "data.json")
    assert shown["size"] == [2, 3]
    assert shown["names"] == {"0": "top", "1": "left"}
    assert shown["large"] == "a Tensor of shape (2000,), in the checkpoints"
    assert shown["graph"] == "a Tensor of shape (2, 2), in the checkpoints"  # sparse


def test_what_the_loader_learns_and_no_checkpoint_holds_is_told(run):
    loader = """import collections
plain = fetch_dataloader
class Vocabulary: pass
def fetch_dataloader(types, data_dir, params):
    params.vocabulary = Vocabulary()
    params.counts = [collections.Counter("aab"), collections.defaultdict(lambda: 7, a=1)]
    return plain(types, data_dir, params)
"""
    folder, said = run(data_loader=loader)
    assert "params.vocabulary is set by the loader to a Vocabulary, which is kept in no checkpoint" in said
    assert said.count("params.counts holds a defaultdict, which comes back as a plain dict") == 1
    shown = {name: value for name, value in read(folder, "data.json").items() if not name.startswith("_")}
    assert shown == {"counts": [{"a": 2, "b": 1}, {"a": 1}]}


# The seed


RANDOM_TASK = f"""{IMPORTS}import numpy, random
SHIFT = torch.randn(2) + numpy.random.rand() + random.random()
class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.features, self.layer = torch.randn(2, 16), nn.Linear(16, 3)
    def forward(self, inputs):
        return self.layer(torch.tanh((inputs + SHIFT) @ self.features))
"""


DRAWING_LOADER = """import torch
plain = fetch_dataloader
def fetch_dataloader(types, data_dir, params):
    torch.randn(len("".join(types)))
    return plain(types, data_dir, params)
"""


def test_all_of_a_task_is_imported_and_built_under_the_seed_of_its_run(run):
    first, _ = run(net=RANDOM_TASK, data_loader=DRAWING_LOADER)
    torch.manual_seed(1234)
    evaluate.main(["--model_dir", str(first), "--split", "val"])
    assert read(first, "metrics_val_best.json") == read(first, "metrics_val_best_weights.json")
    again, other = first.parent / "again", first.parent / "other"
    params = read(first, "params.json")
    for folder, seed in ((other, 5), (again, 230)):  # another seed in between, in the same process
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps({**params, "seed": seed}))
        train.main(["--model_dir", str(folder)])
    assert history(again) == history(first)
    assert history(other) != history(first)
    import_anew(params["task"])  # as in a process of its own
    evaluate.main(["--model_dir", str(other), "--split", "val"])
    assert read(other, "metrics_val_best.json") == read(other, "metrics_val_best_weights.json")


# What a task's functions are called with


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (
            {"net": "class Net(nn.Linear):\n def __init__(self, width, depth): pass"},
            r"Net is called with \(params\).*depth",
        ),
        ({"net": "Net = lambda params: None"}, r"Net\(params\) is to give a torch.nn.Module, and it gave None"),
        ({"net": "def step(model, batch): pass"}, r"step is called with \(model, batch, params\)"),
        ({"net": "def configure_optimizer(params): pass"}, r"configure_optimizer is called with \(model, params\)"),
        (
            {"net": "metrics = {'f1': lambda outputs, labels, names: 0}"},
            r'"f1" is called with \(outputs, labels\).*names',
        ),
        ({"net": "metrics = [accuracy]"}, "metrics is to be a dict of functions by name, and it is a list of 1"),
        ({"data_loader": "def fetch_dataloader(data_dir, params): pass"}, r"called with \(types, data_dir, params\)"),
        ({"data_loader": "def fetch_dataloader(*_): return []"}, "returns a list of 0, not a dict"),
        ({"data_loader": "def fetch_dataloader(types, *_): return dict.fromkeys(types)"}, "batches of train are None"),
    ],
)
def test_a_function_of_other_arguments_or_results_is_one_line(run, tmp_path, code, line):
    folder = refused(run, tmp_path, line, **{file: IMPORTS + text for file, text in code.items()})
    assert set(contents(folder)) == {"params.json"}


def test_a_network_may_be_made_by_a_function_and_metrics_by_one_of_params(run):
    net = f"{IMPORTS}Net = lambda params, width=4: nn.Linear(2, 3)\nmetrics = lambda params: {{'right': accuracy}}"
    assert "val_right" in history(run(net=net)[0])[0]


# Whose checkpoint it is


def test_a_checkpoint_copied_from_another_run_is_not_taken_for_this_one_s(run):
    ours, theirs = run()[0], run(seed=5)[0]
    own = (ours / "best.pth.tar").read_bytes()
    for name in ("best.pth.tar", "last.pth.tar"):
        shutil.copy(theirs / name, ours)
    of_another = r"best.pth.tar: is of another run than this folder's"
    for use in (lambda: evaluate.main(["--model_dir", str(ours)]), lambda: load_experiment(ours)):
        with pytest.raises(UserError, match=of_another):
            use()
    with pytest.raises(UserError, match=of_another):
        evaluate.main(["--model_dir", str(ours), "--restore_file", str(ours / "best.pth.tar")])
    assert not list(ours.glob("metrics_test*"))
    status = read(ours, "status.json")
    (ours / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    with pytest.raises(UserError, match=r"last.pth.tar: is of another run than this folder's"):
        train.main(["--model_dir", str(ours)])
    evaluate.main(["--model_dir", str(ours), "--restore_file", str(theirs / "best.pth.tar")])
    (ours / "best.pth.tar").write_bytes(own)
    evaluate.main(["--model_dir", str(ours)])
    assert read(ours, "run.json")["run"] == checkpoint(ours, "best")["run"] != read(theirs, "run.json")["run"]


def test_a_checkpoint_that_does_not_say_whose_it_is_is_taken_as_it_is(run):
    folder, _ = run()
    content = checkpoint(folder, "best")
    del content["run"]
    torch.save(content, folder / "best.pth.tar")
    evaluate.main(["--model_dir", str(folder)])


def test_a_run_that_is_moved_or_goes_on_keeps_its_name(run):
    folder, _ = run(num_epochs=1)
    name = read(folder, "run.json")["run"]
    moved = folder.rename(folder.with_name("moved"))
    (moved / "params.json").write_text(json.dumps({**read(moved, "params.json"), "num_workers": 1}))
    (moved / "status.json").write_text(json.dumps({**read(moved, "status.json"), "state": "interrupted"}))
    train.main(["--model_dir", str(moved)])
    evaluate.main(["--model_dir", str(moved)])
    assert name == checkpoint(moved)["run"] == checkpoint(moved, "best")["run"]
    train.main(["--model_dir", str(moved), "--fresh"])
    assert checkpoint(moved)["run"] != name


# Names of scores


def test_one_value_of_a_metric_is_monitored_by_the_name_it_is_logged_under(run, tmp_path):
    net = f"""{IMPORTS}from torchmetrics.classification import MulticlassF1Score
metrics = {{'f1': MulticlassF1Score(3, average='none')}}
"""
    folder, _ = run(net=net, monitor="f1_2", mode="max")
    assert checkpoint(folder, "best")["best_score"] == max(row["val_f1_2"] for row in history(folder))


def test_two_scores_of_one_name_end_the_run_at_its_first_step(run, tmp_path):
    net = f"""{IMPORTS}from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
metrics = {{"accuracy": accuracy, "more": MetricCollection({{"accuracy": MulticlassAccuracy(3)}})}}
"""
    folder = refused(
        run, tmp_path, 'two scores are called "accuracy", of the metric "accuracy" and the metric "more"', net=net
    )
    assert set(contents(folder)) == {"params.json"}
