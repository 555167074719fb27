"""What a test needs that looks at a GPU; `python -m pytest -m gpu` picks all of them."""

import pytest
import torch

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]
