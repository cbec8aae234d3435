"""What does acyclicity cost, and how many of its digits are right? Ours against the formulas as they are printed.

    python benchmarks/acyclicity.py [--threads 1] [--out benchmarks/results/acyclicity.json]

Forward and backward over a batch of random gates (weights in [0, 1], no loops), timed in turn, round by round: only
ratios of one run mean anything, as the machine drifts. Then the relative error of h and of its gradient against
arithmetic of 60 digits, from h near 1 down to 1e-17. A candidate is compared with the quantity it means to compute.

* "matrix_exp" is tr(exp(A∘A)) - M, "matrix_power" is tr((I + A∘A/M)^M) - M, "slogdet" is M log s - logdet(sI - A∘A)
  with s = M, all by autograd through PyTorch's function.
"""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import torch
from timing import parser, report, save, take_turns
from torch import Tensor

from mmaffect.ops import acyclicity

BATCH = 64
SIZES = (3, 5, 10, 40)
SCALES = (1.0, 0.1, 1e-2, 1e-3, 6e-5)  # of the weights: h goes with the fourth power
PRINTED = {"expm": "matrix_exp", "poly": "matrix_power", "logdet": "slogdet"}
Function = Callable[[Tensor], Tensor]


def trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


def matrix_exp(a: Tensor) -> Tensor:
    return trace(torch.matrix_exp(a * a)) - a.shape[-1]


def matrix_power(a: Tensor) -> Tensor:
    size = a.shape[-1]
    return trace(torch.matrix_power(torch.eye(size, dtype=a.dtype) + a * a / size, size)) - size


def slogdet(a: Tensor) -> Tensor:
    size = a.shape[-1]
    return size * math.log(size) - torch.linalg.slogdet(size * torch.eye(size, dtype=a.dtype) - a * a)[1]


def candidates() -> dict[str, tuple[str, Function]]:
    """For each name, which of the three quantities it computes, and how."""
    chosen: dict[str, tuple[str, Function]] = {
        f"mmaffect {method}": (method, lambda a, method=method: acyclicity(a, method)) for method in PRINTED
    }
    return (
        chosen
        | {"matrix_exp": ("expm", matrix_exp), "matrix_power": ("poly", matrix_power)}
        | {"slogdet": ("logdet", slogdet)}
    )


def gates(size: int, scale: float, dtype: torch.dtype, count: int = BATCH) -> Tensor:
    weights = scale * torch.rand(count, size, size, dtype=dtype, generator=torch.Generator().manual_seed(size))
    return (weights * (1 - torch.eye(size, dtype=dtype))).requires_grad_()


def step(function: Function, a: Tensor) -> None:
    """Forward and backward."""
    a.grad = None
    function(a).sum().backward()


def exact(a: Tensor, quantity: str) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """One matrix's h and gradient, in 60 digits."""
    size = len(a)
    weights = mpmath.matrix(a.tolist())
    squared = weights.apply(lambda w: w * w)
    one = mpmath.eye(size)
    if quantity == "expm":
        slope = mpmath.expm(squared)
        h = sum(slope[i, i] for i in range(size)) - size
    elif quantity == "poly":
        slope = (one + squared / size) ** (size - 1)
        power = slope * (one + squared / size)
        h = sum(power[i, i] for i in range(size)) - size
    else:
        h = size * mpmath.log(size) - mpmath.log(mpmath.det(size * one - squared))
        slope = mpmath.inverse(size * one - squared)
    return h, [slope[j, i] * 2 * weights[i, j] for i in range(size) for j in range(size)]


def worst(found: list[float], expected: list[mpmath.mpf]) -> float:
    return max((float(abs(f - e) / e) for f, e in zip(found, expected, strict=True) if e), default=0.0)


def errors(dtype: torch.dtype) -> list[dict[str, Any]]:
    """Largest relative errors over a few gates of every scale, three nodes as in a gate of three modalities."""
    rows = []
    for scale in SCALES:
        a = gates(3, scale, dtype, count=8)
        for name, (quantity, function) in candidates().items():
            h = function(a)
            (gradient,) = torch.autograd.grad(h.sum(), a)
            with mpmath.workdps(60):
                truths = [exact(matrix, quantity) for matrix in a.detach()]
                rows.append(
                    {
                        "dtype": str(dtype),
                        "candidate": name,
                        "mean_h": float(sum(t for t, _ in truths) / len(truths)),
                        "error_h": max(worst([f], [t]) for f, (t, _) in zip(h.tolist(), truths, strict=True)),
                        "error_gradient": max(
                            worst(g.flatten().tolist(), t) for g, (_, t) in zip(gradient, truths, strict=True)
                        ),
                        "least_h": h.min().item(),
                    }
                )
    return rows


def main() -> None:
    """Time every candidate, then print its errors."""
    options = parser(__doc__ or "", rounds=25)
    options.set_defaults(threads=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for dtype in (torch.float32, torch.float64):
        for size in SIZES:
            a = gates(size, 1.0, dtype)
            print(f"\n{BATCH} graphs of {size} nodes, {dtype}, forward and backward, {given.threads} threads")
            runs = {name: lambda f=f, a=a: step(f, a) for name, (_, f) in candidates().items()}
            calls = 50 if size < 40 else 10
            measured = take_turns(runs, rounds=given.rounds, threads=given.threads, calls=calls)
            rows += report(measured, relative_to="matrix_exp", size=size, dtype=str(dtype))
    found = [row for dtype in (torch.float32, torch.float64) for row in errors(dtype)]
    print("\nlargest relative error, 3 nodes")
    for row in found:
        print(
            f"  {row['dtype']:14s} {row['candidate']:16s} mean h {row['mean_h']:8.1e}   "
            f"h {row['error_h']:8.1e}   gradient {row['error_gradient']:8.1e}   least h {row['least_h']:9.2e}"
        )
    save(given, packages=("mpmath",), times=rows, errors=found)


if __name__ == "__main__":
    main()
