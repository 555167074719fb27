"""Where batches come from: loaders taken as they are, tensors that are resident, images that are decoded once.

Batches enter and leave; what a network does with them, and which experiment they serve, is not known here.
Stands on the ground alone.
"""

from engine.data.augmentation import Augmentation
from engine.data.batches import TensorBatches, to_device
from engine.data.feed import Feed, SamePass
from engine.data.image_cache import read_headers, read_image, read_images, read_masks
from engine.data.image_file import upright_size
from engine.data.image_folder import ImageFolder, Split, find_images
from engine.data.iterators import fetch_iterators
from engine.data.membership import fingerprint, may_share, shared_examples, sketch
from engine.data.part import count_of, part_of
from engine.data.sample_data import write_digits, write_shapes
from engine.data.shares import EMPTY, Share, without_rows

__all__ = [
    "EMPTY",
    "Augmentation",
    "Feed",
    "ImageFolder",
    "SamePass",
    "Share",
    "Split",
    "TensorBatches",
    "count_of",
    "fetch_iterators",
    "find_images",
    "fingerprint",
    "may_share",
    "part_of",
    "read_headers",
    "read_image",
    "read_images",
    "read_masks",
    "shared_examples",
    "sketch",
    "to_device",
    "upright_size",
    "without_rows",
    "write_digits",
    "write_shapes",
]
