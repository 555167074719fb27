"""What changes in a network and is in no checkpoint, never learns or never comes back: told where it can be seen."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from engine.errors import UserError
from engine.wording import some

MOVES = "changes in validation too, so that a checkpoint may score otherwise when it is evaluated: keep it in eval()"
LAZY = (-1,)  # the shape of what has none yet
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


class Unsaved:
    """Looks at a network before it is trained, and then for what has changed behind the back of checkpoints."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self.model = model
        self.optimizers = optimizers
        self.form = _form(model)
        self.buffers = {name: (buffer, buffer._version) for name, buffer in _not_persistent(model).items()}
        self.generators = _generators(model)
        self.moving: list[str] | None = None  # in validation, once there has been one
        self.told_of = {name for name, weight in model.named_parameters() if weight.requires_grad}  # or known to learn

    def check_form(self) -> None:
        """Raise `UserError` if a network made anew could not take the checkpoint, as names or shapes are others now."""
        now = _form(self.model)
        others = [name for name in self.form | now if self.form.get(name) not in (now.get(name), LAZY)]
        changed = [name for name in others if not _loads_itself(self.model, name)]
        if changed:
            raise UserError(
                f"Net: {some(changed)} came, went or took another shape in training, so that evaluate.py, which makes "
                "Net(params) anew, could not load a checkpoint: give all parts and buffers their shapes in __init__"
            )

    @contextmanager
    def validating(self, model: nn.Module) -> Iterator[None]:
        """Look in the first validation for what changes in the network that is scored.

        By its values: observers of quantisation write into buffers without a new version of them.
        """
        if self.moving is not None:
            yield
            return
        model.eval()  # what that switches off is no change
        before = {name: buffer.clone() for name, buffer in _persistent(model).items()}
        yield
        now = _persistent(model)
        self.moving = [name for name, buffer in now.items() if not _is_equal(before.get(name), buffer)]

    def news(self) -> list[str]:
        """One line for each kind of thing that has been seen since the last time."""
        changed = [name for name, buffer in _not_persistent(self.model).items() if self._has_changed(name, buffer)]
        learning = {id(p) for optimizer in self.optimizers for group in optimizer.param_groups for p in group["params"]}
        weights = {name: weight for name, weight in self.model.named_parameters() if name not in self.told_of}
        thawed = [name for name, weight in weights.items() if weight.requires_grad and id(weight) not in learning]
        seen = {
            "is no persistent buffer, and changes: no checkpoint has it, a run that goes on begins it anew": changed,
            MOVES: self.moving or [],
            "is a random generator of its own, which no checkpoint holds: draw from the global ones": self.generators,
            "has been thawed and learns nothing, as configure_optimizer has left it out": thawed,
        }
        self.buffers = {name: known for name, known in self.buffers.items() if name not in changed}
        self.told_of.update(thawed)
        self.generators = []
        self.moving = self.moving and []
        return [f"Net: {', '.join(names)} {what}" for what, names in seen.items() if names]

    def _has_changed(self, name: str, buffer: Tensor) -> bool:
        known, version = self.buffers.get(name, (buffer, buffer._version))
        return buffer is not known or buffer._version != version


def _persistent(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that `state_dict` has, lazy and sparse ones left out."""
    dense = {name: buffer for name, buffer in model.named_buffers() if buffer.layout == torch.strided}
    saved = model.state_dict()
    return {name: buffer for name, buffer in dense.items() if name in saved and not is_lazy(buffer)}


def _is_equal(one: Tensor | None, other: Tensor) -> bool:
    """Whether two tensors hold the same, NaN as well."""
    if one is None or one.shape != other.shape:
        return False
    return bool(((one == other) | (one != one)).all())


def _not_persistent(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that `state_dict` leaves out."""
    saved = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _form(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that a checkpoint holds of the network."""
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {name: LAZY if is_lazy(value) else tuple(value.shape) for name, value in tensors.items()}


def _loads_itself(model: nn.Module, name: str) -> bool:
    """Whether the module that holds the tensor, or one around it, has a way of its own to load what was saved."""
    holders = [part for path, part in model.named_modules() if not path or name.startswith(f"{path}.")]
    return any(
        type(part)._load_from_state_dict is not nn.Module._load_from_state_dict
        or type(part).load_state_dict is not nn.Module.load_state_dict
        or part._load_state_dict_pre_hooks
        for part in holders
    )


def _generators(model: nn.Module) -> list[str]:
    """Where in the network random generators are kept."""
    places = [(path, name, value) for path, module in model.named_modules() for name, value in vars(module).items()]
    return [f"{path}.{name}".lstrip(".") for path, name, value in places if isinstance(value, GENERATORS)]
