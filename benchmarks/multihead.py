"""What does a training step of a cross-modal encoder cost? Ours against the attention that the field writes by hand.

    python benchmarks/multihead.py [--threads 2] [--compile] [--out benchmarks/results/multihead.json]

The peer computes as MulT's published code does, which took it from fairseq: time first, one projection for queries,
keys and values, heads folded into the batch, a float mask of -inf, softmax and dropout written out, keys and values
embedded apart. Both hold the same weights and their outputs are compared before anything is timed. Shapes and dropout
are those of MulT's configurations.

A second table compares the two paths of `attend` alone, without dropout, by length: where they cross is the limit up to
which it writes the softmax out on CPU. Candidates are timed in turn, round by round, and only ratios of one run mean
anything.
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor, nn

from mmaffect.attention import CrossModalEncoder, sinusoidal_positions

# Name, batch, steps, width, heads, layers, attention dropout, residual and feed-forward dropout, embedding dropout
SHAPES = (
    ("MulT d=50", 32, 50, 50, 10, 4, 0.3, 0.2, 0.2),
    ("MulT d=30", 32, 50, 30, 6, 4, 0.1, 0.1, 0.25),
    ("d=32", 32, 50, 32, 4, 4, 0.1, 0.1, 0.25),
    ("d=32, 375 frames", 4, 375, 32, 4, 4, 0.1, 0.1, 0.25),
)


class HandWritten(nn.Module):
    """The directed stack as the field writes it: ``(T, B, D)`` and one -inf mask for the whole batch."""

    def __init__(self, ours: CrossModalEncoder, heads: int, rates: tuple[float, float, float]) -> None:
        super().__init__()
        self.heads, (self.attention_rate, self.rate, self.embedding_rate) = heads, rates
        self.dim = ours.dim
        self.layers = nn.ModuleList()
        for layer in ours.layers:
            parts = nn.ModuleDict({"project": nn.Linear(self.dim, 3 * self.dim)})
            for name in ("attention_norm", "out", "feed_forward_norm", "expand", "contract"):
                module = getattr(layer, name)
                copy = nn.LayerNorm(self.dim) if "norm" in name else nn.Linear(module.in_features, module.out_features)
                copy.load_state_dict(module.state_dict())
                parts[name] = copy
            with torch.no_grad():
                parts["project"].weight.copy_(torch.cat([layer.query.weight, layer.key_value.weight]))
                parts["project"].bias.copy_(torch.cat([layer.query.bias, layer.key_value.bias]))
            self.layers.append(parts)
        self.norm = nn.LayerNorm(self.dim)
        self.norm.load_state_dict(ours.norm.state_dict())

    def embed(self, x: Tensor) -> Tensor:
        x = math.sqrt(self.dim) * x + sinusoidal_positions(x.shape[0], self.dim).unsqueeze(1)
        return F.dropout(x, self.embedding_rate, self.training)

    def attention(self, layer: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        steps, batch, width = query.shape
        weight, bias = layer["project"].weight, layer["project"].bias
        q, k, v = (
            F.linear(x, weight[n * width : (n + 1) * width], bias[n * width : (n + 1) * width])
            for n, x in enumerate((query, key, value))
        )
        q = q * (width // self.heads) ** -0.5
        q, k, v = (
            x.contiguous().view(x.shape[0], batch * self.heads, width // self.heads).transpose(0, 1) for x in (q, k, v)
        )
        scores = torch.bmm(q, k.transpose(1, 2))
        future = torch.full(scores.shape[1:], -torch.inf).triu(1 + abs(k.shape[1] - steps))
        scores = scores + future.unsqueeze(0)
        weights = F.softmax(scores.float(), dim=-1).type_as(scores)
        weights = F.dropout(weights, self.attention_rate, self.training)
        mixed = torch.bmm(weights, v).transpose(0, 1).contiguous().view(steps, batch, width)
        # The published code returns the mean over heads too, and throws it away.
        return layer["out"](mixed), weights.view(batch, self.heads, steps, k.shape[1]).sum(1) / self.heads

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        x, key, value = self.embed(target), self.embed(source), self.embed(source)
        for layer in self.layers:
            norm = layer["attention_norm"]
            mixed, _ = self.attention(layer, norm(x), norm(key), norm(value))
            x = x + F.dropout(mixed, self.rate, self.training)
            hidden = F.relu(layer["expand"](layer["feed_forward_norm"](x)))
            hidden = layer["contract"](F.dropout(hidden, self.rate, self.training))
            x = x + F.dropout(hidden, self.rate, self.training)
        return self.norm(x)


def step(model: Callable[..., Tensor], inputs: tuple[Tensor, ...], weight: Tensor) -> None:
    """Forward and backward, down to the inputs."""
    for leaf in inputs:
        leaf.grad = None
    model(*inputs).backward(weight)


def encoders(threads: int, rounds: int, *, compiled: bool) -> list[dict[str, Any]]:
    """A training step of the whole stack, at each shape."""
    rows = []
    for name, batch, steps, dim, heads, layers, *rates in SHAPES:
        attention_rate, rate, embedding_rate = rates
        build = {"attention_dropout": attention_rate, "dropout": rate, "embedding_dropout": embedding_rate}
        ours = CrossModalEncoder(dim, layers, heads, causal=True, **build)
        without = CrossModalEncoder(dim, layers, heads, causal=True)
        theirs = HandWritten(ours, heads, (attention_rate, rate, embedding_rate))
        batch_first = tuple(torch.randn(batch, steps, dim, requires_grad=True) for _ in range(2))
        time_first = tuple(x.detach().transpose(0, 1).contiguous().requires_grad_() for x in batch_first)
        with torch.no_grad():
            difference = (ours.eval()(*batch_first) - theirs.eval()(*time_first).transpose(0, 1)).abs().max().item()
        print(f"\n{name}: B={batch}, T={steps}, {heads} heads, {layers} layers, {threads} threads")
        print(f"  largest difference of the outputs without dropout: {difference:.1e}")
        weight = torch.randn(batch, steps, dim)
        candidates = {
            "hand-written": partial(step, theirs.train(), time_first, weight.transpose(0, 1).contiguous()),
            "mmaffect": partial(step, ours.train(), batch_first, weight),
            "mmaffect, no dropout": partial(step, without.train(), batch_first, weight),
        }
        if compiled:
            candidates["mmaffect, compiled"] = partial(step, torch.compile(ours, fullgraph=True), batch_first, weight)
        measured = take_turns(candidates, rounds=rounds, threads=threads)
        rows += report(measured, relative_to="hand-written", shape=name, difference=difference)
    return rows


def crossing(threads: int, rounds: int) -> list[dict[str, Any]]:
    """The two paths of ``attend``, by length; masks as in causal attention, no dropout."""
    module, rows = importlib.import_module("mmaffect.attention.attend"), []
    limit = module.SHORT

    def path(short: int, parts: list[Tensor], allowed: Tensor, weight: Tensor | None) -> None:
        module.SHORT = short
        with torch.set_grad_enabled(weight is not None):
            out = module.attend(*parts, allowed)
        if weight is not None:
            torch.autograd.grad(out, parts, weight)

    for heads, width in ((10, 5), (4, 8)):
        for steps in (25, 50, 64, 96, 200):
            parts = [torch.randn(32, heads, steps, width, requires_grad=True) for _ in range(3)]
            allowed = torch.ones(32, steps, steps, dtype=torch.bool).tril()
            for part, weight in (("step", torch.randn_like(parts[0])), ("evaluation", None)):
                print(f"\nattend, {part}: {heads} heads of {width}, T={steps}, {threads} threads")
                candidates = {
                    "written out": partial(path, steps, parts, allowed, weight),
                    "fused": partial(path, 0, parts, allowed, weight),
                }
                measured = take_turns(candidates, rounds=rounds, threads=threads, calls=5)
                rows += report(measured, relative_to="written out", heads=heads, width=width, steps=steps, part=part)
    module.SHORT = limit
    return rows


def main() -> None:
    """Compare the outputs, then time every candidate on every shape and print the ratios."""
    options = parser(__doc__ or "", rounds=9)
    options.add_argument("--compile", action="store_true", help="also compiled by inductor (needs a C++ compiler)")
    options = options.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = encoders(options.threads, options.rounds, compiled=options.compile)
    save(options, encoders=rows, lengths=crossing(options.threads, options.rounds))


if __name__ == "__main__":
    main()
