"""How much does exact sparsity cost? α-entmax against the entmax package and softmax, forward and backward.

    python benchmarks/attention.py [--threads 2] [--compile] [--out benchmarks/results/attention.json]

Causal scores as in CARN's attention, -inf above the diagonal, handed to all alike. "causal": our function is told so,
as CARN's attention tells it; "masked": it is given the mask, and the package's user fills the scores. Before anything
is timed, outputs and gradients are compared in float64. Peak memory is what a process of its own needs at most beyond
its inputs, in units of the scores.
"""

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import entmax as package
import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor

from mmaffect.ops import entmax

SHAPES = ((32, 8, 64, 64), (32, 8, 256, 256))

Function = Callable[[Tensor], Tensor]


def candidates(steps: int, *, compiled: bool, everything: bool) -> dict[str, Function]:
    """What is compared, as functions of scores that are -inf above the diagonal."""
    mask = torch.ones(steps, steps, dtype=torch.bool).tril()
    chosen: dict[str, Function] = {
        "softmax": lambda s: torch.softmax(s, -1),
        "mmaffect 1.5": entmax,
        "mmaffect 1.5, causal": lambda s: entmax(s, causal=True),
        "package 1.5": lambda s: package.entmax15(s, dim=-1),
        "mmaffect 1.5, masked": lambda s: entmax(s, mask),
        "package 1.5, masked": lambda s: package.entmax15(s.masked_fill(~mask, -torch.inf), dim=-1),
    }
    if compiled:
        chosen["softmax, compiled"] = torch.compile(lambda s: torch.softmax(s, -1), fullgraph=True)
        chosen["mmaffect 1.5, compiled"] = torch.compile(lambda s: entmax(s), fullgraph=True)
    if everything:
        chosen |= {
            "mmaffect 2": lambda s: entmax(s, alpha=2.0),
            "package 2 (sparsemax)": lambda s: package.sparsemax(s, dim=-1),
            "mmaffect 1.3": lambda s: entmax(s, alpha=1.3),
            "package 1.3 (bisection)": lambda s: package.entmax_bisect(s, alpha=1.3, dim=-1),
        }
    return chosen


def causal_scores(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=generator).to(dtype)
    return scores.masked_fill(torch.ones(shape[-2:], dtype=torch.bool).triu(1), -torch.inf).requires_grad_()


def step(function: Function, scores: Tensor, weight: Tensor) -> Tensor:
    """Forward and backward; the gradient of the loss towards the output is at hand, as it is in a network."""
    (gradient,) = torch.autograd.grad(function(scores), scores, weight)
    return gradient


def differences(steps: int) -> dict[str, float]:
    """Largest deviation from the package, both in float64, of outputs and gradients."""
    scores = causal_scores((4, 2, steps, steps), torch.float64)
    weight = torch.randn(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = {}
    for alpha, theirs in ((1.5, package.entmax15), (2.0, package.sparsemax)):
        ours = entmax(scores, alpha=alpha)
        found[f"{alpha} output"] = (ours - theirs(scores, dim=-1)).abs().max().item()
        mine = step(lambda s, a=alpha: entmax(s, alpha=a), scores, weight)
        found[f"{alpha} gradient"] = (mine - step(lambda s, f=theirs: f(s, dim=-1), scores, weight)).abs().max().item()
    return found


def most_resident() -> int:
    """Most bytes this process has had in memory (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak(name: str, steps: int, threads: int, answer: "multiprocessing.Queue[float]") -> None:
    """Most memory beyond the inputs that one candidate needs for a step, in units of the scores."""
    torch.set_num_threads(threads)
    function = candidates(steps, compiled=False, everything=False)[name]
    small = causal_scores((2, 2, steps, steps))
    step(function, small, torch.ones_like(small))
    scores = causal_scores((32, 8, steps, steps))
    weight = torch.ones_like(scores)
    before = most_resident()
    step(function, scores, weight)
    after = most_resident()
    answer.put((after - before) / (scores.numel() * scores.element_size()))


def memory(steps: int, threads: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    found = {}
    for name in ("softmax", "mmaffect 1.5", "mmaffect 1.5, causal", "mmaffect 1.5, masked", "package 1.5"):
        answer = context.Queue()
        child = context.Process(target=peak, args=(name, steps, threads, answer))
        child.start()
        found[name] = answer.get()
        child.join()
    return found


def main() -> None:
    options = parser(__doc__ or "", rounds=9)
    options.add_argument("--compile", action="store_true", help="also compiled by inductor (needs a C++ compiler)")
    options = options.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    rows, deviations = [], {}
    for shape in SHAPES:
        scores, weight = causal_scores(shape), torch.randn(shape)
        deviations[shape[-1]] = differences(shape[-1])
        print(f"\n{shape}, forward and backward, {options.threads} threads")
        print(
            "  largest deviation from the package in float64:",
            {k: f"{v:.0e}" for k, v in deviations[shape[-1]].items()},
        )
        # Of longer rows bisection alone would take minutes.
        functions = candidates(shape[-1], compiled=options.compile, everything=shape[-1] <= 64)
        measured = take_turns(
            {name: partial(step, f, scores, weight) for name, f in functions.items()},
            rounds=options.rounds,
            threads=options.threads,
            calls=max(1, 2**21 // scores.numel()),
        )
        rows += report(measured, relative_to="softmax", shape=shape)
        for ours, theirs in (
            ("mmaffect 1.5", "package 1.5"),
            ("mmaffect 1.5, causal", "package 1.5"),
            ("mmaffect 1.5, masked", "package 1.5, masked"),
            ("mmaffect 2", "package 2 (sparsemax)"),
            ("mmaffect 1.3", "package 1.3 (bisection)"),
        ):
            if theirs in measured:
                print(f"  {ours} is {measured[theirs].median / measured[ours].median:.1f} times as fast as {theirs}")
    peaks = {}
    for shape in SHAPES:
        peaks[shape[-1]] = memory(shape[-1], options.threads)
        print(f"\npeak memory beyond the inputs at {shape}, in score tensors:")
        for name, value in peaks[shape[-1]].items():
            print(f"  {name:22s} {value:5.1f}")
    save(options, packages=["entmax"], rows=rows, deviations=deviations, peak_memory_in_scores=peaks)


if __name__ == "__main__":
    main()
