"""How much does exact sparsity cost? 1.5-entmax against the entmax package and softmax, forward and backward.

    python benchmarks/attention.py [--threads 2] [--compile] [--out benchmarks/results/attention.json]

Causal scores as in CARN's attention. Candidates are timed in turn, round by round, and only ratios of one run mean
anything: the machine drifts.
"""

import argparse
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import entmax
import torch
from torch import Tensor
from torch.utils.benchmark import Measurement, Timer

from mmaffect.ops import entmax, masked_softmax

SHAPES = ((32, 8, 64, 64), (32, 8, 256, 256))


def candidates(mask: Tensor, compiled: bool) -> dict[str, Callable[[Tensor], Tensor]]:
    """What is compared; the package is given -inf where the mask is False, as its users do."""
    chosen: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax": lambda s: masked_softmax(s, mask),
        "mmaffect entmax15": lambda s: entmax(s, mask),
        "entmax package": lambda s: entmax.entmax15(s.masked_fill(~mask, -torch.inf), dim=-1),
    }
    if compiled:
        whole = torch.compile(entmax, fullgraph=True)
        chosen["mmaffect entmax15, compiled"] = lambda s: whole(s, mask)
    return chosen


def step(function: Callable[[Tensor], Tensor], scores: Tensor, weight: Tensor) -> None:
    """Forward and backward."""
    scores.grad = None
    (function(scores) * weight).sum().backward()


def main() -> None:
    """Time every candidate on every shape and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also compiled by inductor (needs a C++ compiler)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        scores = torch.randn(shape, requires_grad=True)
        weight = torch.randn(shape)
        mask = torch.ones(shape[-2:], dtype=torch.bool).tril()
        timers = {
            name: Timer(
                "step(f, s, w)", globals={"step": step, "f": f, "s": scores, "w": weight}, num_threads=options.threads
            )
            for name, f in candidates(mask, options.compile).items()
        }
        for timer in timers.values():
            timer.timeit(2)  # warm-up
        found: dict[str, list[Measurement]] = {name: [] for name in timers}
        for _ in range(options.rounds):
            for name, timer in timers.items():
                found[name].append(timer.timeit(3))
        merged = {name: Measurement.merge(runs)[0] for name, runs in found.items()}
        softmax = merged["softmax"].median
        print(f"\n{shape}, forward and backward, {options.threads} threads")
        for name, measured in merged.items():
            against = f"{measured.median / softmax:6.1f} x softmax"
            print(f"  {name:30s} {1e3 * measured.median:9.2f} ms ± {1e3 * measured.iqr:7.2f}   {against}")
            rows.append({"shape": shape, "candidate": name, "median_s": measured.median, "iqr_s": measured.iqr})
        ratio = merged["entmax package"].median / merged["mmaffect entmax15"].median
        print(f"  ours is {ratio:.1f} times as fast as the package")
    versions = {"torch": torch.__version__, "entmax": version("entmax"), "machine": platform.machine()}
    if options.out:
        record = {"versions": versions, "threads": options.threads, "rounds": options.rounds, "rows": rows}
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
