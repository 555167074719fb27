"""Training as the course of 2018 does it: each image opened with PIL for each batch, the loss fetched at each step.

Run by `images.py`: python benchmarks/course_way.py <data_dir> <params.json> <folder for checkpoints>
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.course_task import net


class Images(Dataset[Any]):
    """The images of a split, whose label is the first letter of their name."""

    def __init__(self, folder: Path, transform: Any) -> None:
        self.files = sorted(folder.glob("*.jpg"))
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[index])), int(self.files[index].name[0])


def main(data_dir: str, params_path: str, folder: str) -> None:
    """Train and validate for all epochs, with a checkpoint each."""
    params = SimpleNamespace(**json.loads(Path(params_path).read_text()))
    torch.manual_seed(230)
    steps = [transforms.Resize(64), transforms.ToTensor()]
    train_images = Images(
        Path(data_dir, "train_signs"), transforms.Compose([transforms.RandomHorizontalFlip(), *steps])
    )
    val_images = Images(Path(data_dir, "val_signs"), transforms.Compose(steps))
    train_loader = DataLoader(train_images, params.batch_size, shuffle=True, num_workers=4)
    val_loader = DataLoader(val_images, params.batch_size, num_workers=4)
    model = net.Net(params)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(model.parameters(), lr=params.learning_rate)
    best = 0.0
    for epoch in range(params.num_epochs):
        model.train()
        losses = []
        for images, labels in train_loader:
            loss = net.loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            scores = [net.accuracy(model(images).numpy(), labels.numpy()) for images, labels in val_loader]
        content = {"epoch": epoch, "state_dict": model.state_dict(), "optim_dict": optimizer.state_dict()}
        torch.save(content, Path(folder, "last.pth.tar"))
        if np.mean(scores) >= best:
            best = float(np.mean(scores))
            torch.save(content, Path(folder, "best.pth.tar"))
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, val accuracy {np.mean(scores):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
