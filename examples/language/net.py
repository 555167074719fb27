"""A small transformer in the manner of GPT-2: each place of a text sees those before it, and says what comes next.

Sizes, first weights and training of nanoGPT's character models (github.com/karpathy/nanoGPT).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.text import Perplexity

from engine.hyperparameters import Key
from utils import Params

OPTIONS = (
    Key("num_layers", int, 4, "blocks of attention and a feed-forward network", low=1),
    Key("num_heads", int, 4, "heads of each attention", low=1),
    Key("width", int, 128, "numbers that stand for each place; a multiple of num_heads", low=1),
    Key("dropout_rate", float, 0.0, "share of those numbers that is dropped in training", low=0, high=1),
    Key("warmup_steps", int, 100, "steps over which the learning rate rises", low=0),
    Key("lowest_rate", float, 0.1, "of the learning rate, where it ends", low=0, high=1),
)
BITS = 1 / math.log(2)
SAMPLES, SAMPLE_LENGTH = 3, 400


class Net(nn.Module):
    """(B, T) tokens -> (B, T, tokens that there are) logits of the token that comes next."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        layers, heads, width, dropout, *_ = (params.option(key) for key in OPTIONS)
        number = 256 if params.characters is None else len(params.characters)
        self.block_size = params.block_size
        self.tokens = nn.Embedding(number, width)
        self.places = nn.Embedding(self.block_size, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # what adds to the stream begins smaller, so that it grows with no number of layers
                adds = name.endswith(("attention.output.weight", "feed_forward.2.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens are read out with the matrix that reads them in."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        stream = self.dropout(self.tokens(tokens) + self.places(places))  # (B, T, width)
        return functional.linear(self.norm(self.blocks(stream)), self.tokens.weight)


class Block(nn.Module):
    """(B, T, width) -> (B, T, width): what the places before say, then what to make of it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attention = CausalAttention(width, heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, stream: Tensor) -> Tensor:
        """Both add to what is there."""
        stream = stream + self.attention(self.attention_norm(stream))
        return stream + self.feed_forward(self.feed_forward_norm(stream))


class CausalAttention(nn.Module):
    """(B, T, width) -> (B, T, width): each place takes from those before it and from itself."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, stream: Tensor) -> Tensor:
        """Queries, keys and values of all heads come from one product."""
        triples = self.inputs(stream).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, width of a head)
        queries, keys, values = triples.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width of a head)
        rate = self.rate if self.training else 0.0
        taken = functional.scaled_dot_product_attention(queries, keys, values, dropout_p=rate, is_causal=True)
        return self.dropout(self.output(taken.transpose(1, 2).flatten(2)))


def loss_fn(outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Mean cross-entropy of the next token, in nats as `loss`, and in bits."""
    loss = functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())
    return {"loss": loss, "bits_per_token": loss * BITS}


def step(model: nn.Module, batch: tuple[Tensor, Tensor], params: Params) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The losses, outputs and labels of a batch, whose tokens are kept in as few bytes as they need."""
    inputs, labels = (tokens.long() for tokens in batch)
    outputs = model(inputs)
    return loss_fn(outputs, labels), outputs, labels


metrics = {"perplexity": Perplexity()}  # exp of the mean loss over a split, which is no mean of batches' values


def configure_optimizer(model: Net, params: Params) -> Optimizer:
    """AdamW that lets matrices decay, and leaves the weights of the norms alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, params.learning_rate, tuple(params.betas), fused=True)


def configure_scheduler(optimizer: Optimizer, params: Params, total_steps: int) -> tuple[LambdaLR, str]:
    """The learning rate rises in a straight line, and falls along half a cosine to its lowest."""
    *_, warmup_steps, lowest = (params.option(key) for key in OPTIONS)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor), "step"


@torch.no_grad()
def continued(model: Net, prompts: Tensor, length: int, temperature: float = 0.8) -> Tensor:
    """(B, N) tokens of prompts, continued by `length` tokens that are drawn one after the other -> (B, N + length)."""
    tokens = prompts
    for _ in range(length):
        logits = model(tokens[:, -model.block_size :])[:, -1].float() / temperature
        tokens = torch.cat([tokens, torch.multinomial(logits.softmax(dim=1), 1)], dim=1)
    return tokens


def predict_new(model: Net, prompts: Tensor, names: Sequence[str], params: Params) -> dict[str, list[str]]:
    """(B, N) tokens of prompts: each as a text that goes on."""
    return {"text": [decode(tokens, params) for tokens in continued(model, prompts.long(), SAMPLE_LENGTH)]}


def decode(tokens: Tensor, params: Params) -> str:
    """The text of (N,) tokens."""
    if params.characters is None:
        return bytes(tokens.tolist()).decode(errors="replace")
    return "".join(params.characters[token] for token in tokens.tolist())


def report(predictions: Any, folder: Path) -> None:
    """Write texts that the network makes up to `samples.txt`; each begins as a line does."""
    params, model = predictions.params, predictions.model
    line_end = 10 if params.characters is None else max(0, params.characters.find("\n"))
    starts = torch.full((SAMPLES, 1), line_end, device=next(model.parameters()).device)
    texts = [decode(tokens, params).strip() for tokens in continued(model, starts, SAMPLE_LENGTH)]
    (folder / "samples.txt").write_text("\n\n---\n\n".join(texts) + "\n", encoding="utf-8")
