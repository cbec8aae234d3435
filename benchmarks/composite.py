"""What does attention within every subset of the modalities cost? Ours, seven masked softmaxes, and one attention.

    python benchmarks/composite.py [--threads 2] [--out benchmarks/results/composite.json]

Three modalities of 50 steps, a batch of 32. The layers have the same weights and their outputs are compared first.
Candidates are timed in turn, round by round, and only ratios of one run mean anything: the machine drifts.

* "seven masked softmaxes" computes as CIDer's published code does: one score tensor, and for each subset all rows and
  columns, masked;
* "seven softmaxes, sliced" computes only the rows and columns of each subset, which a careful author might have done;
* "one attention" is a projection, one softmax over the whole sequence and a last map, by plain products or by
  PyTorch's fused kernel.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor

from mmaffect.attention.composite import CompositeAttention, subsets_of

NAMES = ("a", "b", "c")
BATCH, STEPS = 32, 50
SIZES = ((32, 8), (32, 4), (128, 8), (128, 4))
SEVEN, PLAIN, FUSED = "seven masked softmaxes", "one attention, plain", "one attention, fused"
Layer = Callable[[Tensor], Tensor]


def candidates(layer: CompositeAttention) -> dict[str, Layer]:
    """What is compared: functions from steps ``(B, N, D)`` to such."""
    lengths = [STEPS] * len(NAMES)
    owner = torch.arange(len(NAMES)).repeat_interleave(STEPS)
    inside = [torch.isin(owner, torch.tensor(s)) for s in subsets_of(len(NAMES))]
    pairs = [i.unsqueeze(1) & i for i in inside]
    rows = [i.nonzero().squeeze(1) for i in inside]
    everything = torch.ones(BATCH, len(NAMES) * STEPS, dtype=torch.bool)

    def heads(x: Tensor) -> list[Tensor]:
        return [p.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for p in layer.project(x).chunk(3, -1)]

    def gathered(parts: list[Tensor]) -> Tensor:
        own = [
            torch.cat([parts[i] for i in layer.containing[m]], -1)[:, m * STEPS : (m + 1) * STEPS]
            for m in range(len(NAMES))
        ]
        return layer.out(torch.cat([f(c) for f, c in zip(layer.modalities, own, strict=True)], 1))

    def masked(x: Tensor) -> Tensor:
        query, key, value = heads(x)
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        parts = []
        for columns, allowed, linear in zip(inside, pairs, layer.subsets, strict=True):
            weights = scores.masked_fill(~allowed, -1e9).softmax(-1) * columns
            parts.append(linear((weights @ (value * columns.unsqueeze(1))).transpose(1, 2).flatten(2)))
        return gathered(parts)

    def sliced(x: Tensor) -> Tensor:
        query, key, value = heads(x)
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        parts = []
        for chosen, linear in zip(rows, layer.subsets, strict=True):
            weights = scores[:, :, chosen][..., chosen].softmax(-1)
            seen = linear((weights @ value[:, :, chosen]).transpose(1, 2).flatten(2))
            parts.append(seen.new_zeros(x.shape).index_copy(1, chosen, seen))
        return gathered(parts)

    def plain(x: Tensor) -> Tensor:
        query, key, value = heads(x)
        weights = ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(-1)
        return layer.out((weights @ value).transpose(1, 2).flatten(2))

    def fused(x: Tensor) -> Tensor:
        return layer.out(F.scaled_dot_product_attention(*heads(x)).transpose(1, 2).flatten(2))

    return {
        "mmaffect": lambda x: layer.attend(x, everything, lengths)[0],
        "mmaffect, no scores": lambda x: layer.attend(x, everything, lengths, return_scores=False)[0],
        SEVEN: masked,
        "seven softmaxes, sliced": sliced,
        PLAIN: plain,
        FUSED: fused,
    }


def forward(function: Layer, x: Tensor, weight: Tensor) -> None:
    """Forward alone."""
    with torch.no_grad():
        function(x)


def both(function: Layer, x: Tensor, weight: Tensor) -> None:
    """Forward and backward."""
    x.grad = None
    (function(x) * weight).sum().backward()


def largest_difference(mine: Layer, theirs: Layer, x: Tensor, weight: Tensor) -> tuple[float, float]:
    """Of outputs and of gradients, relative to the largest value."""
    found = []
    for function in (mine, theirs):
        both(function, x, weight)
        found.append((function(x).detach(), x.grad.clone()))
    return tuple(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*found, strict=True))


def main() -> None:
    """Compare outputs, time every candidate at every size and print the ratios."""
    options = parser(__doc__ or "", rounds=9).parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for dim, heads in SIZES:
        chosen = candidates(CompositeAttention(dim, heads, NAMES))
        x = torch.randn(BATCH, len(NAMES) * STEPS, dim, requires_grad=True)
        weight = torch.randn_like(x)
        y, gradient = largest_difference(chosen["mmaffect"], chosen[SEVEN], x, weight)
        print(f"\nwidth {dim}, {heads} heads, {options.threads} threads")
        print(f"  largest difference from seven masked softmaxes: outputs {y:.1e}, gradients {gradient:.1e}")
        for what in (forward, both):
            print(f" {what.__doc__}")
            measured = take_turns(
                {name: partial(what, function, x, weight) for name, function in chosen.items()},
                rounds=options.rounds,
                threads=options.threads,
                calls=2,
            )
            labels = {"dim": dim, "heads": heads, "what": what.__name__, "difference": [y, gradient]}
            rows += report(measured, relative_to="mmaffect", **labels)
            ours, seven, plain, fused = (measured[n].median for n in ("mmaffect", SEVEN, PLAIN, FUSED))
            print(f"  {seven / ours:.1f} times as fast as seven masked softmaxes,", end=" ")
            print(f"{ours / plain:.2f} times the cost of one attention ({ours / fused:.2f} of the fused)")
    save(options, rows=rows)


if __name__ == "__main__":
    main()
