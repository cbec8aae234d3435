"""What does a step of CIDer's training cost, ours and the published way?

    python benchmarks/cider.py [--threads 2] [--batch 32] [--out benchmarks/results/cider.json]

The sizes of CMU-MOSI with width 32 and 8 heads: 50 steps that three modalities share, and 50, 375 and 500 steps of
their own. Half of all steps are missing. Candidates are timed in turn, round by round, and only ratios of one run mean
anything: the machine drifts.

* "mmaffect" sums the losses of both twins and takes one step of the optimiser on them;
* "two steps" takes one on the complete batch and one on the incomplete one, as the published code does, with the
  gradients of the first still there in the second;
* "seven softmaxes" computes composite attention as that code does: one score tensor, and for each subset of the
  modalities a masked softmax over all rows and columns. "published" is both.
* "one full attention" is the ablation without subsets, "without MSSD" the one without the complete batch.

All candidates take missing steps for zeros, as published, and have the same weights; losses and gradients are compared
first. At the end, the composite attention alone against one attention over the same sequence.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import composite
import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor

from examples.systems import cider
from mmaffect.attention import CompositeAttention, subsets_of
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.losses import cosine_distillation, masked_reconstruction, score_map_distillation, task_loss
from mmaffect.missing import rmfm
from mmaffect.testing import random_batch
from mmaffect.training import Progress

MODALITIES = {"language": 768, "acoustic": 5, "vision": 20}
LENGTHS = {"aligned": (50, 50, 50), "unaligned": (50, 375, 500)}
LAYERS = (2, 3)
OURS, PUBLISHED = "mmaffect", "published"


def seven_softmaxes(
    attention: CompositeAttention,
    x: Tensor,
    mask: Tensor,
    lengths: Sequence[int],
    *,
    queries: Tensor | None = None,
    return_scores: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Composite attention as published: every subset over all rows and columns, no masks but the subset's own."""
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    query, key, value = (
        p.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for p in attention.project(x).chunk(3, -1)
    )
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    parts = []
    for subset, linear in zip(subsets_of(len(lengths)), attention.subsets, strict=True):
        inside = torch.isin(owner, torch.tensor(subset))
        weights = scores.masked_fill(~(inside.unsqueeze(1) & inside), -1e9).softmax(-1) * inside
        parts.append(linear((weights @ (value * inside.unsqueeze(1))).transpose(1, 2).flatten(2)))
    own = [
        torch.cat([parts[i] for i in chosen], -1).split_with_sizes(list(lengths), 1) for chosen in attention.containing
    ]
    modalities = [linear(each[m]) for m, (linear, each) in enumerate(zip(attention.modalities, own, strict=True))]
    return attention.out(torch.cat(modalities, 1)), scores if return_scores else None


def build(spec: DataSpec, lengths: Sequence[int], *, published: bool = False, **changes: Any) -> cider.CIDer:
    """The system, with the weights that all candidates share where they have the same parts."""
    torch.manual_seed(0)
    system = cider.System(cider.Config(lengths=tuple(lengths), holes="unknown", balanced=False, **changes), spec)
    for layer in system.transformer.layers if published else ():
        layer.attention.attend = partial(seven_softmaxes, layer.attention)
    return system


def one_step(
    system: cider.CIDer, optimizer: torch.optim.Optimizer, observed: MultimodalBatch, complete: MultimodalBatch
) -> None:
    """One step on the sum of all terms."""
    optimizer.zero_grad()
    sum(system.loss(observed, complete, Progress("train", 0, 1, 0.0)).values()).backward()
    optimizer.step()


def two_steps(
    system: cider.CIDer, optimizer: torch.optim.Optimizer, observed: MultimodalBatch, complete: MultimodalBatch
) -> None:
    """A step on the complete batch, and one on the incomplete one and its distance from the former."""
    config, spec = system.config, system.spec
    optimizer.zero_grad()
    full = system.encode(complete, return_scores=True)
    taught = system.join(full)
    task_loss(system.head(taught), complete.targets, spec.target).backward()
    optimizer.step()
    part = system.encode(observed, return_scores=True)
    learned = system.join(part)
    # Every step counts as one that is there, so the masks of the distillation are those of the complete batch.
    maps = score_map_distillation(part.scores, full.scores)
    rebuilt = system.decode(part.hidden, observed)
    missing = {n: complete.masks[n] & ~observed.masks[n] for n in rebuilt}
    loss = task_loss(system.head(learned), observed.targets, spec.target)
    loss = loss + config.alpha * cosine_distillation(learned, taught) + config.beta * maps
    loss = loss + config.gamma * masked_reconstruction(rebuilt, complete.inputs, missing, kind="smooth_l1")
    loss.backward()
    optimizer.step()


def candidates(spec: DataSpec, lengths: Sequence[int], layers: int) -> dict[str, tuple[Callable[..., None], Any]]:
    """What is compared: how a step is taken, and the system that takes it."""
    system = partial(build, spec, lengths, layers=layers)
    return {
        OURS: (one_step, system()),
        "mmaffect, two steps": (two_steps, system()),
        "seven softmaxes": (one_step, system(published=True)),
        PUBLISHED: (two_steps, system(published=True)),
        "one full attention": (one_step, system(attention="full")),
        "without MSSD": (one_step, system(twins=False)),
    }


def data(kind: str, batch: int) -> tuple[DataSpec, MultimodalBatch, MultimodalBatch]:
    """A complete batch without padding, and what is left of it."""
    generator = torch.Generator().manual_seed(0)
    spec = DataSpec(
        MODALITIES, "class", ("negative", "neutral", "positive"), "window" if kind == "aligned" else "single"
    )
    complete = random_batch(spec, [max(LENGTHS[kind])] * batch, generator=generator)
    if kind == "unaligned":
        cut = dict(zip(spec.names, LENGTHS[kind], strict=True))
        inputs = {n: x[:, : cut[n]] for n, x in complete.inputs.items()}
        masks = {n: m[:, : cut[n]] for n, m in complete.masks.items()}
        complete = MultimodalBatch(inputs, masks, complete.targets, None, complete.id, complete.index)
    kept = rmfm(complete.masks, 0.5, generator)
    # The last step of each is there, so that every step is one that the sample is known to have.
    kept = {n: m | (torch.arange(m.shape[1]) == m.shape[1] - 1) for n, m in kept.items()}
    return spec, complete, complete.drop(kept)


def differences(kind: str) -> float:
    """Largest difference of a gradient from that of seven softmaxes, in units of the largest; float64, no dropout."""
    spec, complete, observed = data(kind, 2)
    found = []
    for published in (False, True):
        system = build(spec, LENGTHS[kind], published=published, layers=2).double().eval()
        terms = system.loss(observed.to(torch.float64), complete.to(torch.float64), Progress("train", 0, 1, 0.0))
        sum(terms.values()).backward()
        found.append(torch.cat([p.grad.flatten() for p in system.parameters()]))
    return ((found[0] - found[1]).abs().max() / found[1].abs().max()).item()


def attention_alone(options: Any) -> list[dict[str, Any]]:
    """Composite attention against seven masked softmaxes and one plain attention, width 32 and 8 heads."""
    torch.manual_seed(0)
    chosen = composite.candidates(CompositeAttention(32, 8, composite.NAMES))
    x = torch.randn(composite.BATCH, len(composite.NAMES) * composite.STEPS, 32, requires_grad=True)
    weight, rows = torch.randn_like(x), []
    for what in (composite.forward, composite.both):
        print(f"\nattention alone: {what.__doc__}")
        measured = take_turns(
            {name: partial(what, function, x, weight) for name, function in chosen.items()},
            rounds=options.rounds,
            threads=options.threads,
            calls=2,
        )
        rows += report(measured, relative_to=composite.PLAIN, what=what.__name__)
    return rows


def main() -> None:
    """Compare gradients, time every candidate at every size and print the ratios."""
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--batch", type=int, default=32, help="samples; the published code takes 128")
    options = options.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    rows, deviations = [], {}
    for kind, lengths in LENGTHS.items():
        spec, complete, observed = data(kind, options.batch)
        deviations[kind] = differences(kind)
        for layers in LAYERS:
            print(f"\n{kind}, {layers} layers, a batch of {options.batch}, {options.threads} threads")
            print(f"  largest difference of a gradient from seven softmaxes: {deviations[kind]:.0e}")
            measured = take_turns(
                {
                    name: partial(take, system, torch.optim.Adam(system.parameters(), 1e-3), observed, complete)
                    for name, (take, system) in candidates(spec, lengths, layers).items()
                },
                rounds=options.rounds,
                threads=options.threads,
            )
            rows += report(measured, relative_to=OURS, kind=kind, layers=layers)
            ours, theirs = measured[OURS].median, measured[PUBLISHED].median
            print(f"  {1 / ours:.2f} steps a second, {1 / theirs:.2f} as published: {theirs / ours:.1f} times as many")
    save(options, rows=rows, deviations=deviations, attention=attention_alone(options))


if __name__ == "__main__":
    main()
