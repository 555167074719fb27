"""A straight line through two readings, and which hours it was trained on."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from utils import Params


class Net(nn.Linear):
    """(B, 2) readings -> (B, 1) next reading."""

    def __init__(self, params: Params) -> None:
        super().__init__(2, 1)


def loss_fn(outputs: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """The mean square error."""
    return functional.mse_loss(outputs.squeeze(1), labels["reading"])


class Hours:
    """The first and the last hour of a stretch, and how many there were."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hours: list[int] = []

    def update(self, outputs: Tensor, labels: dict[str, Tensor]) -> None:
        self.hours += labels["hour"].tolist()

    def compute(self) -> dict[str, float]:
        return {"first_hour": self.hours[0], "last_hour": self.hours[-1], "hours": len(self.hours)}

    def state_dict(self) -> dict[str, Any]:
        return {"hours": list(self.hours)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.hours = list(state["hours"])


metrics = {"hours": Hours()}
