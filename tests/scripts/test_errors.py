"""Bad input gets one clear line and status 2, and the folder of the experiment stays as it was."""

import json
import logging
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.errors import UserError
from engine.training.explanations import download_errors_explained
from engine.training.tracking import release_log, set_logger
from tests.support import scripts
from tests.support.folders import checkpoint, contents, history, read


@pytest.fixture
def refused(script):
    """Runs a script that has to refuse: `refused("train", "--model_dir", folder)`; returns its one line."""

    def run(name, model_dir, folder, *words, unchanged=True, **options):
        before = contents(folder) if folder.exists() else None
        done = script(name, model_dir, folder, *words, **options)
        assert done.status == 2, done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.endswith("\n")
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stdout
        if unchanged:
            assert (contents(folder) if folder.exists() else None) == before
        return done.stderr.strip()

    return run


# params.json


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_no_params(refused, tmp_path, name):
    (tmp_path / "empty").mkdir()
    assert "params.json: no such file" in refused(name, "--model_dir", tmp_path / "empty")
    assert "nowhere: no such folder" in refused(name, "--model_dir", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": 1,\n "batch_size": }', "params.json: not valid JSON: Expecting value at line 2, column 16"),
        ('{"batch_size": "32"}', 'params.json: "batch_size" must be a whole number, not "32"'),
        ('{"batch_size": 0}', 'params.json: "batch_size" must be at least 1, not 0'),
        ('{"schedule": "cosin"}', 'did you mean "cosine"?'),
    ],
    ids=["JSON", "type", "range", "choice"],
)
def test_params_that_cannot_be(refused, points, name, text, said):
    folder = points()
    (folder / "params.json").write_text(text)
    assert said in refused(name, "--model_dir", folder)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("leraning_rate", "learning_rate"),
        ("num_epoch", "num_epochs"),
        ("max_eval_batchs", "max_eval_batches"),
        ("moniter", "monitor"),
        ("num_hiden", "num_hidden"),
    ],
)
def test_a_slip_in_a_key(refused, points, slip, meant):
    folder = points(**{slip: 1})
    params = read(folder, "params.json")
    (folder / "params.json").write_text(json.dumps({key: params[key] for key in params if key != meant}))
    line = refused("train", "--model_dir", folder)
    assert f'params.json: "{slip}" is read by nothing; did you mean "{meant}"?' in line


def test_a_key_that_is_asked_for_and_missing(refused, points, variant):
    path = variant("asking", net="class Net(Net):\n    def __init__(self, params):\n        params.num_channels")
    line = refused("train", "--model_dir", points(task="asking", num_chanels=8), path=path)
    assert 'params.json: "num_channels" is asked for and not there; did you mean "num_chanels"?' in line


def test_a_key_that_resembles_nothing_is_only_named(points, script):
    folder = points(course="CS230")
    assert script("train", "--model_dir", folder).status == 0
    assert "WARNING Nothing has read these keys of params.json: course" in (folder / "train.log").read_text()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"optimizer": "adamw"}, 'there is no "adamw" in torch.optim; did you mean "AdamW"?'),
        ({"momentum": 0.9}, '"momentum" is no argument of the optimizer Adam'),
        ({"device": "cuda:77"}, '"device": "cuda:77" cannot be used here'),
        (
            {"monitor": "acuracy"},
            '"monitor": "acuracy" is not logged; logged are accuracy, loss; did you mean "accuracy"?',
        ),
    ],
    ids=["optimizer", "argument", "device", "monitor"],
)
def test_values_that_do_not_fit(refused, points, params, said):
    assert said in refused("train", "--model_dir", points(**params))


def test_a_monitor_without_a_mode(refused, points, variant):
    path = variant("heights", net='metrics = {"height": accuracy}')
    line = refused("train", "--model_dir", points(task="heights", monitor="height"), path=path)
    assert '"monitor": "height" needs "mode"' in line


# The command line


@pytest.mark.parametrize("setting", ["num_epochs", "=3", "num_epochs=NaN"])
def test_a_setting_that_is_none(refused, points, tmp_path, setting):
    assert "--set" in refused("train", "--model_dir", tmp_path / "new", "--from", points(), "--set", setting)


def test_a_setting_that_cannot_be(refused, points, tmp_path):
    line = refused("train", "--model_dir", tmp_path / "new", "--from", points(), "--set", "num_epochs=0")
    assert '"num_epochs" must be at least 1' in line


def test_a_setting_without_a_source(refused, points):
    assert "--set goes with --from" in refused("train", "--model_dir", points(), "--set", "num_epochs=3")


def test_a_source_that_is_none(refused, tmp_path):
    line = refused("train", "--model_dir", tmp_path / "new", "--from", tmp_path / "nowhere")
    assert "nowhere/params.json: no such file" in line.replace("\\", "/")


def test_a_new_experiment_where_there_is_one(refused, points):
    line = refused("train", "--model_dir", points("there"), "--from", points("source"), "--set", "num_epochs=7")
    assert "is there already, with other values" in line


# The task


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("tests.projects.pionts", 'tests/projects/pionts/net.py is not there; did you mean "tests.projects.points"?'),
        ("nowhere", "nowhere/net.py is not there"),
        ("tests.projects", "tests/projects/net.py is not there"),
    ],
)
def test_a_task_that_is_not_there(refused, points, task, said):
    line = refused("train", "--model_dir", points(task=task))
    assert f'"task": "{task}": ' in line
    assert said in line.replace("\\", "/")


@pytest.mark.parametrize(
    ("name", "module", "slip"),
    [("Net", "net", "Nett"), ("loss_fn", "net", "loss_fun"), ("fetch_dataloader", "data_loader", "fetch_dataloaders")],
)
def test_a_task_that_lacks_a_name(refused, points, variant, name, module, slip):
    path = variant("lacking", **{module: f"{slip} = {name}\ndel {name}"})
    line = refused("train", "--model_dir", points(task="lacking"), path=path)
    assert f'{module}.py: lacks "{name}"' in line
    assert f'did you mean "{slip}"?' in line


def test_a_task_that_lacks_a_split(refused, points, variant):
    loader = "def fetch_dataloader(types, data_dir, params, fetch=fetch_dataloader):\n"
    loader += "    return fetch(['train'], data_dir, params)"
    line = refused("train", "--model_dir", points(task="small"), path=variant("small", data_loader=loader))
    assert 'fetch_dataloader has no "val"; it gave train' in line


def test_a_data_folder_that_is_not_there(refused, points, variant, tmp_path):
    loader = "import os\ndef fetch_dataloader(types, data_dir, params):\n    return os.listdir(data_dir)"
    path = variant("reading", data_loader=loader)
    folder = points(task="reading", data_dir="data/of_nobody")
    assert "data/of_nobody" in refused("train", "--model_dir", folder, path=path)
    assert "elsewhere" in refused("train", "--model_dir", folder, "--data_dir", tmp_path / "elsewhere", path=path)


@pytest.mark.parametrize(("label", "first"), [(3, True), (-1, True), (3, False)])
def test_a_label_outside_the_outputs(refused, points, variant, label, first):
    loader = f"""
def points(split, points=points):
    inputs, labels = points(split)
    labels[{50 if first else -1}] = {label}
    return inputs, labels

def fetch_dataloader(types, data_dir, params):
    return {{split: TensorBatches(*points(split), batch_size={200 if first else 10}) for split in types}}
"""
    path = variant("mislabelled", data_loader=loader)
    folder = points(task="mislabelled")
    line = refused("train", "--model_dir", folder, path=path, unchanged=first)
    assert f"label {label} is outside the network's 3 outputs" in line
    if not first:
        assert read(folder, "status.json")["state"] == "failed"


# Checkpoints


def test_no_such_checkpoint(refused, trained, points, tmp_path):
    folder = trained(tmp_path / "run")
    line = refused("evaluate", "--model_dir", folder, "--restore_file", "bset")
    assert 'no checkpoint "bset"; there: best, last' in line
    assert "train it first" in refused("evaluate", "--model_dir", points("untrained"))
    assert 'no checkpoint "bset"' in refused("train", "--model_dir", points("new"), "--restore_file", "bset")


def test_the_checkpoint_of_another_network(refused, trained, points, tmp_path):
    source = trained(tmp_path / "source") / "best.pth.tar"
    line = refused("train", "--model_dir", points("wide", num_hidden=5), "--restore_file", source)
    assert "best.pth.tar: the checkpoint of another network" in line
    assert "0.weight (16, 2) instead of (5, 2)" in line

    content = torch.load(source, weights_only=True)
    content["state_dict"]["4.weight"] = content["state_dict"].pop("2.weight")
    torch.save(content, source)
    line = refused("evaluate", "--model_dir", source.parent)
    assert "it lacks 2.weight; it has besides 4.weight" in line


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "zeros", "flipped"])
@pytest.mark.parametrize("reader", ["evaluate", "train"])
def test_a_damaged_checkpoint(refused, trained, points, tmp_path, damage, reader):
    source = trained(tmp_path / "source") / "best.pth.tar"
    content = source.read_bytes()
    weights = checkpoint(source.parent, "best")["state_dict"]["0.weight"].numpy().tobytes()
    place = content.index(weights) + 2
    source.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "empty": b"",
            "text": b"these are no weights\n" * 99,
            "zeros": bytes(len(content)),
            "flipped": content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
        }[damage]
    )
    if reader == "evaluate":
        line = refused("evaluate", "--model_dir", source.parent)
    else:
        line = refused("train", "--model_dir", points("warm"), "--restore_file", source)
    assert "best.pth.tar" in line


def test_a_file_that_is_no_checkpoint(refused, points, tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "weights.pt")
    line = refused("train", "--model_dir", points(), "--restore_file", tmp_path / "weights.pt")
    assert 'weights.pt: not a checkpoint: it has no "state_dict"' in line


class Dangerous:
    """What a stranger's checkpoint might do when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_in_a_checkpoint_is_never_run(refused, points, tmp_path):
    torch.save({"state_dict": Dangerous(tmp_path / "owned")}, tmp_path / "stranger.pth.tar")
    line = refused("train", "--model_dir", points(), "--restore_file", tmp_path / "stranger.pth.tar")
    assert "stranger.pth.tar: not a checkpoint that can be read" in line
    assert not (tmp_path / "owned").exists()


# Numbers


EXPLODING = """
import torch

class Net(Net):
    calls = 0

    def forward(self, inputs):
        if self.training:
            Net.calls += 1
        return super().forward(inputs) * (float("nan") if self.training and Net.calls >= {first} else 1)
"""


@pytest.mark.parametrize("every", [1, 100])
def test_a_loss_that_is_no_number_at_the_first_step(refused, points, variant, every):
    path = variant("exploding", net=EXPLODING.format(first=1))
    line = refused("train", "--model_dir", points(task="exploding", save_summary_steps=every), path=path)
    assert "epoch 1, batch 1, learning rate 0.01" in line
    assert "smaller learning_rate" in line


@pytest.mark.parametrize(("every", "accumulate"), [(1, 1), (4, 1), (100, 1), (100, 3)])
def test_a_loss_that_is_no_number_later(refused, points, variant, every, accumulate):
    path = variant("exploding", net=EXPLODING.format(first=13))
    params = {"save_summary_steps": every, "accumulate": accumulate}
    folder = points(task="exploding", batch_size=20, num_epochs=3, **params)  # 10 batches in an epoch
    line = refused("train", "--model_dir", folder, path=path, unchanged=False)
    assert "epoch 2, batch 3, learning rate 0.01" in line
    assert read(folder, "status.json")["state"] == "failed"
    assert len(history(folder)) == 1
    weights = checkpoint(folder)["state_dict"].values()
    assert all(math.isfinite(tensor.sum()) for tensor in weights)


STRICT = """
def accuracy(outputs, labels):
    if np.isnan(outputs).any():
        raise ValueError("Input contains NaN")
    return np.mean(outputs.argmax(axis=1) == labels)

metrics = {"accuracy": accuracy}
"""


def test_a_metric_that_takes_no_nan_does_not_hide_where_it_comes_from(refused, points, variant):
    path = variant("strict", net=EXPLODING.format(first=13) + STRICT)
    line = refused("train", "--model_dir", points(task="strict", batch_size=20), path=path, unchanged=False)
    assert "the loss is no longer a finite number: epoch 2, batch 3, learning rate 0.01" in line


HUNGRY = """
import torch

class Net(Net):
    def forward(self, inputs):
        if self.training == {training}:
            torch.empty(2**50)
        return super().forward(inputs)
"""


def test_out_of_memory(refused, points, variant):
    path = variant("hungry", net=HUNGRY.format(training=True))
    line = refused("train", "--model_dir", points(task="hungry", batch_size=64), path=path)
    assert "out of memory" in line
    assert '"batch_size": 64' in line
    assert '"accumulate": 2' in line


def test_out_of_memory_in_evaluation(refused, trained, variant, tmp_path):
    folder = trained(tmp_path / "run")
    path = variant("hungry", net=HUNGRY.format(training=False))
    params = read(folder, "params.json")
    (folder / "params.json").write_text(json.dumps({**params, "task": "hungry"}))
    line = refused("evaluate", "--model_dir", folder, path=path, unchanged=False)
    assert "out of memory" in line
    assert "batch_size" in line


# Our own faults, and the task's


def test_a_fault_in_the_tasks_own_code_keeps_its_traceback(points, variant, script):
    net = "class Net(Net):\n    def forward(self, inputs):\n        raise ValueError('these shapes differ')\n"
    folder = points(task="faulty")
    before = contents(folder)
    done = script("train", "--model_dir", folder, path=variant("faulty", net=net))
    assert done.status == 1
    assert "Traceback" in done.stderr
    assert "ValueError: these shapes differ" in done.stderr
    assert "faulty" in done.stderr
    assert contents(folder) == before


def test_a_fault_once_the_run_has_begun_is_its_status(points, variant, script):
    net = """
class Net(Net):
    def forward(self, inputs):
        if not self.training:
            raise ValueError("these shapes differ")
        return super().forward(inputs)
"""
    folder = points(task="faulty")
    done = script("train", "--model_dir", folder, path=variant("faulty", net=net))
    assert done.status == 1
    assert "Traceback" in done.stderr
    assert read(folder, "status.json")["state"] == "failed"
    assert "these shapes differ" in read(folder, "status.json")["reason"]


def test_a_module_that_the_task_cannot_import_keeps_its_traceback(points, variant, script):
    path = variant("importing", net="import a_module_of_nobody")
    done = script("train", "--model_dir", points(task="importing"), path=path)
    assert done.status == 1
    assert "No module named 'a_module_of_nobody'" in done.stderr
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("no mirror answers")], ids=str)
def test_what_cannot_be_downloaded_says_what_else_to_do(error):
    said = f"digits is not there and cannot be downloaded .{error}.; put it into data"
    with pytest.raises(UserError, match=said), download_errors_explained("digits", "put it into data"):
        raise error


def test_faults_of_our_own_are_no_failed_download():
    with pytest.raises(TypeError), download_errors_explained("digits", "put it into data"):
        raise TypeError("ours")


def test_a_setting_that_resembles_a_key_is_no_new_key(points, refused, tmp_path):
    folder = points(num_channels=8)
    for setting, meant in (("num_epohcs=3", "num_epochs"), ("num_chanels=4", "num_channels")):
        said = refused("train", "--model_dir", tmp_path / "new", "--from", folder, "--set", setting)
        assert f'did you mean "{meant}"?' in said
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_there_says_how_to_get_one(points, refused):
    folder = points("first_try")
    said = refused("train", "--model_dir", folder.with_name("first_tyr"))
    assert 'no such folder; did you mean "first_try"?' in said
    assert "--from experiments/base" in refused("train", "--model_dir", folder.with_name("quite_another"))


def test_a_start_that_is_not_there_is_told_before_the_data_are_read(points, refused):
    folder = points(data_dir="not/read")
    said = refused("train", "--model_dir", folder, "--restore_file", "nothing.pth.tar")
    assert 'no checkpoint "nothing.pth.tar"' in said


def test_a_method_of_params_is_no_hyperparameter(points, refused):
    folder = points(update=3)
    assert '"update" is a method of Params' in refused("train", "--model_dir", folder)


def test_lines_held_back_stay_so_when_python_ends(tmp_path):
    set_logger(tmp_path / "train.log")
    logging.info("of a run that has not begun")
    logging.shutdown()
    set_logger(tmp_path / "other.log")
    assert list(tmp_path.iterdir()) == []
    release_log()
    logging.info("begun")
    assert (tmp_path / "other.log").read_text().endswith("begun\n")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into the process by /proc")
def test_ctrl_c_while_torch_is_imported_leaves_no_traceback(points):
    command = [sys.executable, "train.py", "--model_dir", str(points())]
    process = subprocess.Popen(command, cwd=scripts.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said == ""
    assert process.returncode == -signal.SIGINT
