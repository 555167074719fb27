"""One run on several processes: the steps, scores and files of one process, and ends that all of them know of."""

import csv
import functools
import json
import os
import signal
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

from engine.data import write_digits
from tests.projects.ragged.data_loader import points
from tests.projects.ragged.net import WEIGHTS, Net
from tests.support import faults, scripts, together
from tests.support.folders import checkpoint, history, read, same, same_results
from tests.support.waiting import wait_for

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform == "win32", reason="Gloo and torchrun are tried on Linux and macOS"),
]

SGD = {"optimizer": "SGD", "momentum": 0.9, "weight_decay": 0.01, "learning_rate": 0.02}
CASES = {  # each of 56 steps, but for those that accumulate
    "plain": {},
    "accumulated": {"accumulate": 3},
    "weighted": {"loss": "weighted"},
    "two_losses": {"loss": "two", "grad_clip": 0.5, "ema_decay": 0.9},
    "adam": {"optimizer": "AdamW", "momentum": None, "learning_rate": 0.01, "shuffle": True},
    "loader": {"loader": "loader", "num_workers": 1, "num_epochs": 2, "save_steps": 3},
    "stream": {"loader": "stream", "num_epochs": 3, "max_train_batches": 7},
    "stretches": {"shuffle": True, "steps_per_epoch": 5, "accumulate": 2, "num_epochs": 5},
}
COUNTS = (1, 2, 3)


def params_of(case):
    common = {"task": "tests.projects.ragged", "data_dir": "none", "batch_size": 8, "num_epochs": 8}
    return common | SGD | CASES[case]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`runs(case, count)`: the folder of a run of that case on so many processes, trained and evaluated on test."""
    place = tmp_path_factory.mktemp("runs")
    folders = {(case, count): place / f"{case}_{count}" for case in CASES for count in COUNTS}
    for (case, _), folder in folders.items():
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(params_of(case)))
    for count in COUNTS:
        words = [[script, "--model_dir", folders[case, count]] for case in CASES for script in ("train", "evaluate")]
        together.run_all(words, place / "output", count)
    return lambda case, count: folders[case, count]


# The step


def plain_weights(case, loss_fn, accumulate=1):
    """The weights after the steps of a case, in plain PyTorch, in one process and with no mean of means."""
    torch.manual_seed(230)
    model = Net(None)
    optimizer = torch.optim.SGD(model.parameters(), lr=SGD["learning_rate"], momentum=0.9, weight_decay=0.01)
    inputs, labels = points("train")
    for _ in range(8):
        size = 8 * accumulate
        for start in range(0, len(labels), size):
            optimizer.zero_grad()
            loss_fn(model(inputs[start : start + size]), labels[start : start + size]).backward()
            optimizer.step()
    return model.state_dict()


def weighted_loss(outputs, labels):
    return cross_entropy(outputs, labels, WEIGHTS)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("case", "loss_fn", "accumulate"),
    [("plain", cross_entropy, 1), ("accumulated", cross_entropy, 3), ("weighted", weighted_loss, 1)],
)
def test_the_steps_are_those_of_plain_pytorch_on_whole_batches(runs, case, loss_fn, accumulate, count):
    weights = checkpoint(runs(case, count))["state_dict"]
    torch.testing.assert_close(dict(weights), dict(plain_weights(case, loss_fn, accumulate)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", CASES)
def test_so_many_processes_take_the_steps_of_one(runs, case, count):
    one, several = (checkpoint(runs(case, number)) for number in (1, count))
    atol = 2e-4 if case == "adam" else 1e-6  # Adam divides small gradients by themselves, and so their rounding too
    torch.testing.assert_close(dict(several["state_dict"]), dict(one["state_dict"]), rtol=0, atol=atol)
    assert {key: several[key] for key in ("epoch", "step", "best_epoch")} == {
        key: one[key] for key in ("epoch", "step", "best_epoch")
    }
    assert several.keys() == one.keys()


def test_what_no_process_uses_is_not_touched(runs):
    """AdamW would take something off even from weights whose gradient is zero."""
    torch.manual_seed(230)
    first = Net(None).unused.weight
    assert torch.equal(checkpoint(runs("adam", 2))["state_dict"]["unused.weight"], first)
    assert torch.equal(checkpoint(runs("adam", 2))["state_dict"]["table"], Net(None).table)


# The scores


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_one_process(runs, case, count):
    one, several = history(runs(case, 1)), history(runs(case, count))
    assert len(one) == len(several)
    for expected, row in zip(one, several, strict=True):
        assert row == pytest.approx(expected, abs=2e-3 if case == "adam" else 1e-5)
    names = {"accuracy", "recall_of_last", "f1", "largest", "auroc", "f1_of_torchmetrics", "loss"}
    assert {key.removeprefix("val_") for key in several[0] if key.startswith("val_")} >= names


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", ["plain", "weighted", "loader", "stream"])
def test_an_evaluation_leaves_what_one_process_leaves(runs, case, count):
    one, several = runs(case, 1), runs(case, count)
    scores = [read(folder, "metrics_test_best.json") for folder in (one, several)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    tables = [list(csv.DictReader((folder / "predictions_test.csv").open())) for folder in (one, several)]
    assert len(tables[1]) == 23
    for expected, row in zip(*tables, strict=True):
        assert float(row.pop("probability", 0)) == pytest.approx(float(expected.pop("probability", 0)), abs=1e-5)
        assert row == expected
    looks = [read(folder, "run.json")["evaluations"] for folder in (one, several)]
    assert [look["examples"] for look in looks[1]] == [23]


# One writer


def test_the_first_process_alone_writes_and_speaks(runs):
    for case in CASES:
        one, several = ({path.name for path in runs(case, count).iterdir()} for count in (1, 2))
        assert one == several
        assert len(list((runs(case, 2) / "tensorboard").glob("events*"))) == len(
            list((runs(case, 1) / "tensorboard").glob("events*"))
        )
        log = (runs(case, 2) / "train.log").read_text()
        assert log.count("in 2 processes, each on cpu") == 1
        assert log.count("Epoch 1/") == 1
    assert read(runs("plain", 2), "run.json")["processes"] == 2


# Resume


def fault_at(batch, action, training=True):
    return functools.partial(faults.act_at_batch, batch, action, training)


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def ragged(experiment):
    """Makes an experiment on the ragged points: `ragged("name", num_epochs=3)`."""

    def make(name="experiment", /, **params):
        return experiment(name, **{**params_of("plain"), "shuffle": True, "num_epochs": 3, **params})

    return make


def test_a_run_goes_on_with_another_number_of_processes(ragged, tmp_path, script):
    """Stopped in the middle of a pass on two, then in one of the next on one, and finished on three."""
    undisturbed, folder = ragged("undisturbed"), ragged(loader="loader")
    (undisturbed / "params.json").write_text((folder / "params.json").read_text())
    assert script("train", "--model_dir", undisturbed).status == 0
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults={1: fault_at(4, stop)})
    assert [end.status for end in ends] == [128 + signal.SIGTERM] * 2
    assert (read(folder, "status.json")["state"], checkpoint(folder)["step"]) == ("interrupted", 4)
    assert script("train", "--model_dir", folder, before=fault_at(6, stop)).status == 128 + signal.SIGTERM
    assert checkpoint(folder)["step"] == 10
    assert [end.status for end in together.fork("train", "--model_dir", folder, output=tmp_path, count=3)] == [0] * 3
    log = (folder / "train.log").read_text()
    assert "its last bits may differ: 2 -> 1 processes" in log
    assert "its last bits may differ: 2 -> 3 processes" in log
    weights = [dict(checkpoint(each)["state_dict"]) for each in (folder, undisturbed)]
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)
    for expected, row in zip(history(undisturbed), history(folder), strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("when", ["in training", "in validation"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_same_number_of_processes_gives_the_same_bits_stopped_or_not(experiment, tmp_path, rank, when):
    """Everything that is drawn at random in items, in the network and in the order, and batch norm on top."""
    params = {"task": "tests.projects.noisy", "data_dir": "none", "loader": "items", "num_epochs": 3, "save_steps": 2}
    folder, undisturbed = (experiment(name, **params) for name in ("stopped", "undisturbed"))
    for place, fault in ((undisturbed, {}), (folder, {rank: fault_at(3, stop, when == "in training")}), (folder, {})):
        ends = together.fork("train", "--model_dir", place, output=tmp_path, faults=fault)
        assert [end.status for end in ends] == [128 + signal.SIGTERM if fault else 0] * 2, ends
    assert same_results(folder, undisturbed)


def test_each_process_goes_on_with_what_it_had_counted_itself(ragged, tmp_path):
    """Else the sums of a pass would be added up in another order."""
    contents = []
    for name, stops in {"at once": [5], "twice": [3, 2]}.items():
        folder = ragged(name)
        for batch in stops:
            together.fork("train", "--model_dir", folder, output=tmp_path, faults={0: fault_at(batch, stop)})
        contents.append(checkpoint(folder))
    assert [content["step"] for content in contents] == [5, 5]
    assert len(contents[0]["scores"]["shares"]) == 2
    assert same(contents[0]["scores"], contents[1]["scores"])


# Networks and loaders of other kinds


def test_running_statistics_are_those_of_all_rows(ragged, tmp_path):
    """After one step they are a tenth of the mean over the batch, however it was shared out."""
    folder = ragged(norm="plain", num_epochs=1, batch_size=49, loader="tensors", learning_rate=1e-9, count=2)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path)
    assert [end.status for end in ends] == [0, 0]
    state = checkpoint(folder)["state_dict"]
    hidden = points("train")[0] @ state["layers.0.weight"].T + state["layers.0.bias"]
    torch.testing.assert_close(state["layers.1.running_mean"], 0.1 * hidden.mean(dim=0), rtol=0, atol=1e-5)
    assert state["layers.1.num_batches_tracked"] == 1
    assert "Batch norm sees the shares of 2 processes each by itself" in (folder / "train.log").read_text()


def test_batch_norm_on_a_share_of_one_row_is_one_line_with_a_way_out(ragged, tmp_path):
    ends = together.fork("train", "--model_dir", ragged(norm="plain", batch_size=10), output=tmp_path, count=5)
    told = [end for end in ends if end.stderr]
    assert len(told) == 1
    assert told[0].stderr.startswith("error: batch 5, of which this one of 5 processes has 1 example: batch norm")
    assert "batch_size" in told[0].stderr
    assert sorted(end.status for end in ends) == [1, 1, 1, 1, 2]


PROJECTS = {  # what is no (inputs, labels), a loss over words, pictures, several outputs, several labels
    "triplet": {"embedding_size": 4, "margin": 0.5, "threshold": 1.0, "monitor": "loss"},
    "tagging": {"num_hidden": 8},
    "autoencoder": {"net": "small"},
    "multi_task": {"num_hidden": 8, "size_weight": 0.1, "monitor": "loss"},
    "multi_label": {"monitor": "loss"},
}


@pytest.mark.parametrize("name", PROJECTS)
def test_projects_of_many_kinds_train_to_the_same_scores(experiment, tmp_path, script, name):
    params = {"task": f"tests.projects.{name}", "data_dir": "none", "num_epochs": 2, "batch_size": 16} | PROJECTS[name]
    one, several = experiment("one", **params), experiment("several", **params)
    assert script("train", "--model_dir", one).status == 0
    ends = together.fork("train", "--model_dir", several, output=tmp_path)
    assert [end.status for end in ends] == [0, 0], ends
    for expected, row in zip(history(one), history(several), strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)


# What is refused, and ends that all know of


def refused(tmp_path, folder, path=None, count=2):
    """The one line that two processes leave, from whichever of them."""
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, path=path, count=count)
    (line,) = [end.stderr for end in ends if end.stderr]
    assert sorted(end.status for end in ends)[-1] == 2
    assert (line.count("\n"), "Traceback" in line) == (1, False)
    return line


REFUSED = {
    "cannot be made one": "from torchmetrics import PearsonCorrCoef\n\nclass Pearson(PearsonCorrCoef):\n"
    "    def update(self, outputs, labels):\n        super().update(outputs[:, 0], labels.float())\n\n"
    'metrics = {"pearson": Pearson()}',
    "need a method merge": "class Own:\n    reset = compute = state_dict = lambda self: 0\n"
    '    update = load_state_dict = lambda self, *_: None\n\nmetrics = {"own": Own()}',
    "sparse gradients": "class Net(nn.Module):\n    def __init__(self, params):\n        super().__init__()\n"
    "        self.table = nn.Embedding(9, 3, sparse=True)\n\n    def forward(self, points):\n"
    "        return self.table(points[:, 0].long() % 9)",
    '"torchrun" needs a network whose sizes are known': "class Net(nn.Sequential):\n    def __init__(self, params):\n"
    "        super().__init__(nn.LazyLinear(3))",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_several_processes_cannot_do_is_one_line(points, tmp_path, variant, reason):
    path = variant("mine", REFUSED[reason])
    assert reason in refused(tmp_path, points(task="mine", optimizer="SGD"), path)


OTHER_BATCHES = {
    "more": "    return [(torch.ones(4, 2), torch.ones(4).long())] * (3 + RANK)",
    "other": "    return [(torch.full((4, 2), 1.0 + RANK), torch.ones(4).long())] * 3",
}


@pytest.mark.parametrize("what", OTHER_BATCHES)
@pytest.mark.parametrize("split", ["train", "val"])
def test_loaders_that_differ_between_processes_are_found_out(points, tmp_path, variant, what, split):
    code = f"import os, torch\n\nRANK = int(os.environ['RANK'])\n\ndef odd():\n{OTHER_BATCHES[what]}\n\n"
    code += "plain = fetch_dataloader\n\ndef fetch_dataloader(types, data_dir, params):\n"
    code += f"    return {{**plain(types, data_dir, params), '{split}': odd()}}"
    line = refused(tmp_path, points(task="mine"), variant("mine", "", code))
    assert f"the loader gives {what} batches in one process than in another" in line


def raise_error():
    raise ValueError("a bad example")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("training", [True, False])
def test_an_error_in_one_process_ends_all_of_them_and_is_told_once(ragged, tmp_path, rank, training):
    folder = ragged(save_steps=2)
    fault = {rank: fault_at(8, raise_error, training)}
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults=fault)
    assert [end.stderr.count("ValueError: a bad example") for end in ends] == [rank == 0, rank == 1]
    assert ends[1 - rank].stderr == ""
    assert [end.status for end in ends] == [1, 1]
    assert read(folder, "status.json")["state"] == "failed"
    assert read(folder, "status.json")["reason"] == "ValueError: a bad example"
    assert checkpoint(folder)["step"] >= 6


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_other_with_a_word(ragged, tmp_path, rank):
    folder = ragged(save_steps=2)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults={rank: fault_at(8, faults.die)})
    assert [end.status for end in ends] == [-signal.SIGKILL, 1][:: 1 if rank == 0 else -1]
    assert "another process of this run has ended without a word" in ends[1 - rank].stderr
    assert checkpoint(folder)["step"] in (7, 8)
    assert [end.status for end in together.fork("train", "--model_dir", folder, output=tmp_path)] == [0, 0]


def test_a_full_disk_ends_all_with_one_line(ragged, tmp_path):
    folder = ragged()
    full = functools.partial(faults.limit_file_size, 3_000)
    ends = together.fork("train", "--model_dir", folder, output=tmp_path, faults={0: full})
    assert [end.status for end in ends] == [1, 1]
    assert "cannot be written" in ends[0].stderr
    assert ends[1].stderr == ""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_in_one_process_stops_all(ragged, tmp_path, variant, rank):
    net = "import os\n\nplain = loss_fn\n\ndef loss_fn(outputs, labels):\n"
    net += f"    return plain(outputs, labels) * (float('nan') if os.environ['RANK'] == '{rank}' else 1)"
    assert "epoch 1, batch 1," in refused(tmp_path, ragged(task="mine"), variant("mine", net))


# torchrun


def test_a_signal_to_torchrun_stops_in_peace(ragged, tmp_path):
    folder = ragged(num_epochs=10_000, save_steps=1)
    launcher = together.start_torchrun("train.py", "--model_dir", folder, output=tmp_path / "output")
    wait_for((folder / "last.pth.tar").exists, seconds=120)
    os.kill(launcher.pid, signal.SIGTERM)
    launcher.join()
    status, content = read(folder, "status.json"), checkpoint(folder)
    assert (status["state"], status["reason"], status["step"]) == ("interrupted", "SIGTERM", content["step"])
    assert "the same command goes on from there" in (tmp_path / "output" / "stdout").read_text()


def test_torchrun_starts_again_what_has_died_and_it_ends_with_the_same_bits(ragged, tmp_path, variant):
    """Killed once in each process; `--fresh` is not to start over a second time."""
    sign = tmp_path / "sign"
    net = f"""
import os
from tests.support import faults
from pathlib import Path

def die_in(rank):
    if os.environ["RANK"] == rank:
        faults.once(Path({str(sign)!r} + rank), faults.die)

faults.act_at_batch(9, lambda: die_in("1"))
faults.act_at_batch(4, lambda: die_in("0")) if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "1" else None
"""
    path = variant(
        "mine", "from tests.projects.ragged.net import *\n" + net, "from tests.projects.ragged.data_loader import *"
    )
    folder, undisturbed = ragged(task="mine", save_steps=2), ragged("undisturbed", task="mine", save_steps=2)
    options = ("--max-restarts", "3")
    words = ("train.py", "--fresh", "--model_dir")
    done = together.torchrun(*words, folder, output=tmp_path / "output", options=options, path=path)
    assert done.status == 0, done.stderr
    assert (tmp_path / "sign0").exists()
    assert (tmp_path / "sign1").exists()
    ends = together.fork("train", "--model_dir", undisturbed, output=tmp_path, path=path)
    assert [end.status for end in ends] == [0, 0]
    assert same_results(folder, undisturbed)
    assert not (folder / ".old").exists()


# The rest of a run


def forget_to_add_up():
    """What a loop of one's own does that knows nothing of other processes."""
    from engine.training import Gradients

    Gradients.average = lambda *_: None


def test_a_loop_that_does_not_add_up_gradients_is_told(ragged, tmp_path):
    both = dict.fromkeys((0, 1), forget_to_add_up)
    ends = together.fork("train", "--model_dir", ragged(), output=tmp_path, faults=both)
    assert [end.status for end in ends] != [0, 0]
    assert sum(end.stderr.count("does not add up the gradients of its processes") for end in ends) == 1


def decode_nothing():
    from engine.data import image_cache

    image_cache._write = None


@pytest.mark.skipif(not (scripts.ROOT / "model" / "net.py").is_file(), reason="the default task has been replaced")
def test_images_are_decoded_by_the_first_process_of_a_machine(experiment, tmp_path):
    """And evaluated by both, with the pictures of one."""
    write_digits(tmp_path / "digits")
    params = {"data_dir": str(tmp_path / "digits"), "num_epochs": 1, "max_train_batches": 3, "num_channels": 4}
    folder = experiment(**params)
    for script in ("train", "evaluate"):
        ends = together.fork(script, "--model_dir", folder, output=tmp_path, faults={1: decode_nothing})
        assert [end.status for end in ends] == [0, 0], ends
    assert (folder / "confusion_test.png").is_file()
    assert ends[1].stdout == ""
    log = (folder / "train.log").read_text()
    assert "One process of each machine reads the data; the others wait" in log
    assert "images of" in log


@pytest.mark.parametrize(
    "words",
    [("train", "--check"), ("train", "--replay", "x"), ("evaluate", "--parent_dir", "experiments"), ("predict", "x")],
)
def test_what_is_for_one_process_is_refused_under_a_launcher(script, words):
    done = script(*words, before=together.Environment(rank=0, count=2, port=1))
    assert done.status == 2
    assert done.stderr.startswith("error: ")
    assert "is for one process" in done.stderr


def test_a_run_that_is_finished_says_so_and_no_more(trained, tmp_path):
    folder = trained(tmp_path / "experiment")
    ends = together.fork("train", "--model_dir", folder, output=tmp_path)
    assert [end.status for end in ends] == [0, 0]
    assert "is finished" in ends[0].stdout
    assert [ends[0].stderr, ends[1].stdout, ends[1].stderr] == ["", "", ""]
