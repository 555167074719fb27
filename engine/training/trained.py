"""A trained network put together again from its experiment's folder."""

from torch import nn

from engine.experiment import Evaluation
from engine.training.checkpoint import Checkpoint, load_weights, read_checkpoint
from engine.training.device import Device, device_for
from engine.training.task import Task, load_task


def read_own_checkpoint(plan: Evaluation) -> Checkpoint:
    """What a planned checkpoint holds, with what the task learned set on the params.

    Raises `UserError` for one that lies in the experiment's folder and is of another run.
    """
    checkpoint = read_checkpoint(plan.checkpoint)
    plan.experiment.check_own(plan.checkpoint, checkpoint.get("run"))
    plan.params.learn(checkpoint.get("learned", {}))
    return checkpoint


def load_trained(plan: Evaluation) -> tuple[nn.Module, Task, Device]:
    """The network with the weights of the planned checkpoint, ready to predict, its task and its device."""
    checkpoint = read_own_checkpoint(plan)
    device = device_for(plan.params)
    task = load_task(plan.params.task, plan.params)
    model = device.place(task.Net(plan.params))
    load_weights(model, checkpoint["state_dict"], plan.checkpoint)
    return model.eval(), task, device
