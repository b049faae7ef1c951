"""A transformer's training step with ten runs stacked, against the same runs one after the other.

One by one means ten ordinary networks of torch.nn layers, each with its own torch.optim.Adam, stepped in turn. Both
sides see the same sequences; nothing is drawn while the clock runs. Processor time of one thread, median of repeats.
"""

import time

import torch
from common import report
from torch import nn
from torch.nn import functional as F

from reprise.blocks.seeds import FlatAdam
from reprise.blocks.transformer import Shape, StackedTransformer

RUNS, VOCABULARY, REPEATS, STEPS = 10, 16, 5, 4
SIZES = {  # width, heads, layers, hidden units, batch, length
    "tiny: 2 layers, width 32, 5 tokens": (32, 4, 2, 0, 32, 5),
    "small: 2 layers, width 64, MLP, 16 tokens": (64, 4, 2, 128, 32, 16),
    "medium: 2 layers, width 128, MLP, 32 tokens": (128, 8, 2, 256, 8, 32),
}


class Ordinary(nn.Module):
    """One pre-norm causal transformer with learned positions, as torch users write it."""

    def __init__(self, width, heads, layers, mlp, length):
        super().__init__()
        self.heads, self.mlp = heads, mlp
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)
        linear = [(width, 3 * width), (width, width)] + [(width, mlp), (mlp, width)] * bool(mlp)
        self.matrices = nn.ModuleList(nn.Linear(a, b, bias=mlp in (a, b)) for _ in range(layers) for a, b in linear)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers * (2 if mlp else 1)))
        self.last, self.out = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        matrices, norms = iter(self.matrices), iter(self.norms)
        for qkv in matrices:
            parts = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv(next(norms)(x)).chunk(3, -1))
            mixed = F.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + next(matrices)(mixed.transpose(1, 2).flatten(2))
            if self.mlp:
                into, out_of = next(matrices), next(matrices)
                x = x + out_of(F.gelu(into(next(norms)(x))))
        return self.out(self.last(x))


def stacked(width, heads, layers, mlp, batch, length, tokens):
    shape = Shape(width, heads, layers, vocabulary=VOCABULARY, context=length, positions="learned", mlp=mlp)
    networks = StackedTransformer(list(range(RUNS)), shape)
    optimizer = FlatAdam(networks.params, 1e-3)

    def step():
        networks.params.zero_grad()
        loss = F.cross_entropy(networks(tokens).flatten(0, 2), tokens.flatten(), reduction="sum")
        (loss / (batch * length)).backward()
        optimizer.step()

    return step


def one_by_one(width, heads, layers, mlp, batch, length, tokens):
    networks = [Ordinary(width, heads, layers, mlp, length) for _ in range(RUNS)]
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3) for network in networks]

    def step():
        for network, optimizer, own in zip(networks, optimizers, tokens):
            optimizer.zero_grad()
            F.cross_entropy(network(own).flatten(0, 1), own.flatten()).backward()
            optimizer.step()

    return step


def milliseconds(step) -> float:
    """Of one step: processor time, the median of repeats, after two steps to warm up."""
    step(), step()
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(STEPS):
            step()
        times.append((time.process_time() - started) / STEPS * 1e3)
    return sorted(times)[REPEATS // 2]


def compare(size: str) -> dict:
    """One row: both sides at one size."""
    width, heads, layers, mlp, batch, length = SIZES[size]
    tokens = torch.randint(VOCABULARY, (RUNS, batch, length), generator=torch.Generator().manual_seed(0))
    ours, theirs = (milliseconds(make(*SIZES[size], tokens)) for make in (stacked, one_by_one))
    return {"size": size, "runs": RUNS, "stacked, ms": ours, "one by one, ms": theirs, "ratio": theirs / ours}


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("transformer_stacked", [compare(size) for size in SIZES])
