"""What float16 needs to train: a factor on the loss, and steps left out where gradients overflow all the same."""

from typing import Any

from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

SMALLEST = 2.0**-14  # a factor below it means that the gradients are not too large, but no numbers


class LossScale:
    """PyTorch's `GradScaler`: the loss times a factor, so that small gradients do not vanish in float16.

    The factor falls where gradients overflow, and rises when they have not for 2,000 steps. Where it is not enabled, in
    any other precision, nothing is scaled, and each step is taken.
    """

    def __init__(self, device: str = "cpu", enabled: bool = False) -> None:
        self.scaler = GradScaler(device, enabled=enabled)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to go backward from."""
        return self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Make the gradients those of the loss itself, once all batches of a step are added up."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Take a step, unless gradients overflowed: to know that, float16 waits for the device. Returns whether.

        By `GradScaler.step`, one would not know of optimizers that leave a step out within their own kernel.
        """
        factor = self.scaler.get_scale()
        self.scaler.update()
        taken = self.scaler.get_scale() >= factor
        if taken:
            optimizer.step()
        return taken

    @property
    def is_exhausted(self) -> bool:
        """Whether gradients have gone on to overflow until no factor was left to try."""
        return self.scaler.get_scale() < SMALLEST

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the factor, and for how many steps it has held."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.scaler.load_state_dict(state)
