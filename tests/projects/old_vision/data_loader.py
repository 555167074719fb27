"""Pictures whose file names begin with their label, read one by one as the course did it in 2018."""
# ruff: noqa  # in the manner of its time

import os
import random

from PIL import Image
from torch.utils.data import DataLoader, Dataset
import torchvision.transforms as transforms

import utils


class SquaresDataset(Dataset):
    """The pictures of one folder with their labels."""

    def __init__(self, folder, transform, turned=False):
        names = [name for name in sorted(os.listdir(folder)) if name.endswith(".jpg")]
        self.paths = [os.path.join(folder, name) for name in names]
        self.labels = [int(name[0]) for name in names]
        self.transform = transform
        self.turned = turned

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, idx):
        image = Image.open(self.paths[idx])
        if self.turned and random.random() < 0.5:
            image = image.rotate(90)
        return self.transform(image), self.labels[idx]


train_transformer = transforms.Compose(
    [transforms.Resize(16), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
)

eval_transformer = transforms.Compose([transforms.Resize(16), transforms.ToTensor()])


def fetch_dataloader(types, data_dir, params):
    """A DataLoader for each of the splits in types"""
    dataset_params = utils.Params(os.path.join(data_dir, "dataset_params.json"))
    params.num_classes = dataset_params.number_of_classes

    dataloaders = {}
    for split in ["train", "val", "test"]:
        if split in types:
            folder = os.path.join(data_dir, "{}_signs".format(split))
            if split == "train":
                dl = DataLoader(
                    SquaresDataset(folder, train_transformer, turned=True),
                    batch_size=params.batch_size,
                    shuffle=True,
                    num_workers=params.num_workers,
                    pin_memory=params.cuda,
                )
            else:
                dl = DataLoader(
                    SquaresDataset(folder, eval_transformer),
                    batch_size=params.batch_size,
                    shuffle=False,
                    num_workers=params.num_workers,
                    pin_memory=params.cuda,
                )
            dataloaders[split] = dl
    return dataloaders
