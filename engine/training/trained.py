"""A trained network put together again from its experiment's folder."""

from pathlib import Path

from torch import nn

from engine.hyperparameters import Params
from engine.training.checkpoint import load_weights, read_checkpoint
from engine.training.device import Device, device_for
from engine.training.task import Task, load_task


def load_trained(params: Params, path: Path) -> tuple[nn.Module, Task, Device]:
    """The network with the weights of a checkpoint, ready to predict, its task and its device.

    What the task learned from its data is set on `params`.
    """
    checkpoint = read_checkpoint(path)
    params.learn(checkpoint.get("learned", {}))
    device = device_for(params)
    task = load_task(params.task, params)
    model = device.place(task.Net(params))
    load_weights(model, checkpoint["state_dict"], path)
    return model.eval(), task, device
