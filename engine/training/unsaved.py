"""What changes in a network and is in no checkpoint, or never learns: told once, where it can be seen."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class Unsaved:
    """Looks at a network before it is trained, and then for what has changed behind the back of checkpoints."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self.model = model
        self.buffers = {name: (buffer, buffer._version) for name, buffer in _not_persistent(model).items()}
        self.generators = _generators(model)
        learning = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        self.left_out = {
            name: parameter
            for name, parameter in model.named_parameters()
            if not parameter.requires_grad and id(parameter) not in learning
        }

    def news(self) -> list[str]:
        """One line for each kind of thing that has been seen since the last time."""
        changed = [name for name, buffer in _not_persistent(self.model).items() if self._has_changed(name, buffer)]
        thawed = [name for name, parameter in self.left_out.items() if parameter.requires_grad]
        seen = {
            "is no persistent buffer, and changes: no checkpoint has it, a run that goes on begins it anew": changed,
            "is a random generator of its own, which no checkpoint holds: draw from the global ones": self.generators,
            "has been thawed and learns nothing, as configure_optimizer has left it out": thawed,
        }
        self.buffers = {name: known for name, known in self.buffers.items() if name not in changed}
        self.left_out = {name: parameter for name, parameter in self.left_out.items() if name not in thawed}
        self.generators = []
        return [f"Net: {', '.join(names)} {what}" for what, names in seen.items() if names]

    def _has_changed(self, name: str, buffer: Tensor) -> bool:
        known, version = self.buffers.get(name, (buffer, buffer._version))
        return buffer is not known or buffer._version != version


def _not_persistent(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that `state_dict` leaves out."""
    saved = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _generators(model: nn.Module) -> list[str]:
    """Where in the network random generators are kept."""
    places = [(path, name, value) for path, module in model.named_modules() for name, value in vars(module).items()]
    return [f"{path}.{name}".lstrip(".") for path, name, value in places if isinstance(value, GENERATORS)]
