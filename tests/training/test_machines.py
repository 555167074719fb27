"""Two machines that train one network: they have networks, host names and processes of their own."""

import re
import sys

import pytest
import torch

from tests.support.folders import checkpoint, history, read
from tests.support.waiting import wait_for

if not sys.platform.startswith("linux"):
    pytest.skip("only Linux has namespaces", allow_module_level=True)

from tests.support.machines import missing_for_machines, two_machines

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(missing_for_machines() is not None, reason=str(missing_for_machines())),
]


@pytest.fixture
def machines(tmp_path):
    with two_machines(tmp_path) as both:
        yield both


def test_a_cable_that_is_pulled_ends_both_sides_and_the_same_command_goes_on(
    experiment, variant, script, tmp_path, machines
):
    net = f"""
import os
from pathlib import Path

from tests.projects.ragged.net import *
from tests.support import faults
from tests.support.waiting import wait_for

place = Path({str(tmp_path)!r})
faults.lose_processes_soon()
if os.environ.get("RANK") == "0":
    faults.act_at_batch(9, lambda: faults.once(place / "there", lambda: wait_for((place / "pulled").exists)))
"""
    path = variant("mine", net, "from tests.projects.ragged.data_loader import *")
    params = {"data_dir": "none", "batch_size": 8, "num_epochs": 3, "optimizer": "SGD", "save_steps": 2}
    folder, alone = (experiment(name, task=task, **params) for name, task in PROJECTS.items())
    words = ("train.py", "--model_dir", folder)
    first, second = machines
    for machine in machines:
        machine.torchrun(*words, path=path)
    wait_for((tmp_path / "there").exists)
    second.unplug()
    (tmp_path / "pulled").touch()

    wait_for(lambda: "error: the first machine of this run, or the launcher on it, can no longer be" in second.said)
    wait_for(lambda: "error: " in first.said)
    status = read(folder, "status.json")
    assert (status["state"], status["host"]) == ("failed", "node1")
    assert re.match(r"rank 1 of 2 on node2 has given no sign of life for [\d.]+ s, and was in ", status["reason"])
    assert first.said.count(f"error: {status['reason']}") == 1
    assert checkpoint(folder)["step"] == 8

    for machine in machines:  # torchrun itself waits for the other for longer
        machine.turn_off()
        machine.plug()
    launchers = [machine.torchrun(*words, path=path) for machine in machines]
    assert [launcher.wait(90) for launcher in launchers] == [0, 0], first.said
    assert script("train", "--model_dir", alone).status == 0
    torch.testing.assert_close(*(dict(checkpoint(each)["state_dict"]) for each in (folder, alone)), rtol=0, atol=1e-6)
    for expected, row in zip(history(alone), history(folder), strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


PROJECTS = {"experiment": "mine", "alone": "tests.projects.ragged"}
