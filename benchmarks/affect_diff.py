"""What does the prior cost? Affect-Diff at the paper's sizes: classification, a step of training, guidance.

    python benchmarks/affect_diff.py [--threads 2] [--out benchmarks/results/affect_diff.json]

Text of 300, audio of 74 and video of 35 features, 50 steps each, six classes. Classification needs nothing of the
prior, and the benchmark says so in time: the full model against *classifier only*. A step of training is forward,
backward, clipping, the optimiser and the average, with everything phased in, against the same without the prior.
Guidance is one evaluation of a doubled batch, against a plain one and against two.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it runs from any folder

import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor, nn

from examples.systems import affect_diff
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.testing import random_batch
from mmaffect.training import Progress
from mmaffect.training.step import clip_gradients, make_optimizer

SPEC = DataSpec({"text": 300, "audio": 74, "video": 35}, "class", tuple("abcdef"), "single")
STEPS, BATCH = 50, 64
LATE = Progress("train", 50, 100, 0.5)
VARIANTS = {
    "classifier only": affect_diff.ABLATIONS["classifier only"],
    "no diffusion": affect_diff.ABLATIONS["no diffusion"],
    "full": {},
}


def system(change: dict) -> affect_diff.AffectDiff:
    torch.manual_seed(0)
    return affect_diff.System(affect_diff.Config(**change), SPEC)


def batch_of(size: int) -> MultimodalBatch:
    return random_batch(SPEC, [STEPS] * size, generator=torch.Generator().manual_seed(0))


def classify(model: nn.Module, batch: MultimodalBatch) -> Tensor:
    with torch.inference_mode():
        return model(batch)


def training_step(model: affect_diff.AffectDiff, batch: MultimodalBatch) -> Callable[[], None]:
    model.train()
    optimizer = make_optimizer(model, affect_diff.TRAINING)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(model.loss(batch, batch, LATE).values()).backward()
        clip_gradients(optimizer, 1.0, "here")
        optimizer.step()
        model.after_step()

    return step


def evaluations(model: affect_diff.AffectDiff) -> dict[str, Callable[[], Tensor]]:
    """One noise level for a batch: with and without guidance, and guidance as two calls."""
    labels = torch.arange(BATCH) % SPEC.outputs
    weights = torch.full((BATCH, len(SPEC.names)), 1 / len(SPEC.names))
    condition = model.condition(labels)
    x, t = torch.randn(BATCH, STEPS, model.config.hidden), torch.full((BATCH,), 0.5)

    def guided(scale: float) -> Callable[[], Tensor]:
        denoise = model.prior.guided(condition, context=weights, guidance=scale)
        return torch.inference_mode()(lambda: denoise(x, t))

    plain, unconditional = guided(1.0), guided(0.0)
    return {"plain": plain, "guided": guided(2.0), "two calls": lambda: torch.lerp(unconditional(), plain(), 2.0)}


def main() -> None:
    options = parser(__doc__ or "", rounds=15).parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    models = {name: system(change).eval() for name, change in VARIANTS.items()}
    rows = []
    for size in (BATCH, 1):
        print(f"\nclassification, batch {size}, {options.threads} threads")
        calls = {name: partial(classify, model, batch_of(size)) for name, model in models.items()}
        measured = take_turns(calls, rounds=options.rounds, threads=options.threads, calls=1 if size > 1 else 20)
        rows += report(measured, relative_to="classifier only", what="classification", batch=size)
    print(f"\none evaluation of the prior, batch {BATCH}")
    measured = take_turns(evaluations(models["full"]), rounds=options.rounds, threads=options.threads, calls=2)
    rows += report(measured, relative_to="plain", what="evaluation", batch=BATCH)
    print(f"\na step of training, batch {BATCH}")
    steps = {name: training_step(models[name], batch_of(BATCH)) for name in ("no diffusion", "full")}
    measured = take_turns(steps, rounds=options.rounds, threads=options.threads)
    rows += report(measured, relative_to="no diffusion", what="training step", batch=BATCH)
    save(options, rows=rows)


if __name__ == "__main__":
    main()
