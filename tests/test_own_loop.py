"""The page `docs/your-own-loop.md`: what it shows is put in place as it says, and the copy of `train.py` runs."""

import csv
import functools
import json
import os
import re
import shutil

import pytest
import torch

from tests.support import scripts
from tests.support.folders import checkpoint, history, read, same, same_results

path = scripts.ROOT / "docs" / "your-own-loop.md"
if not path.is_file():
    pytest.skip("the page is not there", allow_module_level=True)
PAGE = path.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def changed(source, diff):
    """The source with one change made: what begins with a blank or `-` gives way to what begins with a blank or `+`."""
    old, new = (
        "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] in ("", " ", sign)) for sign in ("-", "+")
    )
    assert source.count(old) == 1, f"docs/your-own-loop.md changes lines that are not in train.py:\n{old}"
    return source.replace(old, new)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A project in which somebody has done what the page says."""
    tree = tmp_path_factory.mktemp("tree")
    for script in scripts.ROOT.glob("*.py"):
        shutil.copy(script, tree)
    shutil.copytree(scripts.ROOT / "engine", tree / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(tree / "train.py", tree / "train_gan.py")
    (tree / "model").mkdir()
    (tree / "model" / "__init__.py").write_text('"""The task."""\n')
    for language, name, text in BLOCKS:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(changed(target.read_text(), text) if language == "diff" else text)
    return tree


@pytest.fixture
def train(tree, tmp_path, script):
    """Trains the GAN of the page, two epochs of eight steps: `train("name", learning_rate=0)`; returns the folder."""

    def run(name, status=0, before=None, **params):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        params = {**read(tree / "experiments" / "gan", "params.json"), "num_epochs": 2, "save_steps": 3, **params}
        (folder / "params.json").write_text(json.dumps(params))
        done = script("train_gan", "--model_dir", folder, cwd=tree, before=before)
        assert done.status == status, done.stderr
        return folder

    return run


def test_the_page_shows_whole_files_and_changes_of_the_copy():
    assert [name for language, name, _ in BLOCKS if language != "diff"] == [
        "model/net.py",
        "model/data_loader.py",
        "experiments/gan/params.json",
    ]
    assert {name for language, name, _ in BLOCKS if language == "diff"} == {"train_gan.py"}
    assert len(re.findall("^```", PAGE, flags=re.MULTILINE)) == 2 * len(BLOCKS)


def test_both_networks_learn_each_by_its_own_optimizer_and_are_in_the_checkpoint(train):
    start, end = checkpoint(train("still", learning_rate=0)), checkpoint(train("gan"))
    for name, weights in start["state_dict"].items():
        assert name.split(".")[0] in ("generator", "critic")
        assert not same(weights, end["state_dict"][name])
    for key, network in (("optim_dict", "generator"), ("critic_optimizer", "critic")):
        states = end[key]["state"].values()
        shapes = [weights.shape for name, weights in end["state_dict"].items() if name.startswith(network)]
        assert [state["exp_avg"].shape for state in states] == shapes
        assert {int(state["step"]) for state in states} == {end["step"]} == {16}
        assert end[key]["param_groups"][0]["betas"] == (0.5, 0.9)


def test_the_losses_and_the_score_of_a_gan_are_logged_and_it_is_evaluated(train, tree, script):
    folder = train("gan", num_epochs=10)
    names = {f"{split}_{name}" for split in ("train", "val") for name in ("loss", "critic_loss", "distance")}
    assert {"epoch", "learning_rate", *names} == set(history(folder)[0])
    distances = [row["val_distance"] for row in history(folder)]
    assert min(distances) < 0.5 * distances[0]
    assert checkpoint(folder, "best")["best_score"] == min(distances)
    done = script("evaluate", "--model_dir", folder, cwd=tree)
    assert done.status == 0, done.stderr
    fakes = [[float(line["x"]), float(line["y"])] for line in csv.DictReader((folder / "predictions_test.csv").open())]
    distance = (torch.tensor(fakes).mean(dim=0) - torch.tensor([2.0, 1.0])).norm().item()
    assert read(folder, "metrics_test_best.json")["distance"] == pytest.approx(distance, abs=0.01)


def kill_after(steps):
    """Arrange for the process to be gone, without a word, once it has taken so many steps."""
    from engine.training.monitoring import Watch

    after_step = Watch.after_step

    def counted(watch):
        after_step(watch)
        if watch.state.step == steps:
            os._exit(9)

    Watch.after_step = counted


def test_a_gan_that_was_killed_within_an_epoch_goes_on_to_the_same_bits(train):
    stopped = train("stopped", status=9, before=functools.partial(kill_after, 13))
    assert (checkpoint(stopped)["epoch"], checkpoint(stopped)["step"]) == (1, 12)
    assert len(history(stopped)) == 1
    assert same_results(train("stopped"), train("whole"))
