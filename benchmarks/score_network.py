"""What does one evaluation of a conditional score network cost? The published layout against the lean one.

    python benchmarks/score_network.py [--threads 2] [--out benchmarks/results/score-network.json]

IMDer's network (``reference``) and ours (``fast``), at the published shape, batch 32 of 48 steps of 32, with the
condition read anew at each evaluation or prepared once; each also with masks; and what a training step costs. Between
them ``fast, attention``: the lean network that asks by attention in every block instead. Candidates are timed in
turn, and only ratios of one run mean anything. Operations are those of a sample and evaluation, counted by PyTorch:
products and sums of matrix products and convolutions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmaffect.diffusion import UNet1d, fast_score_network, reference_score_network

BATCH, STEPS, DIM = 32, 48, 32


def evaluate(network: nn.Module, x: Tensor, t: Tensor, **named: Any) -> Tensor:
    with torch.no_grad():
        return network(x, t, **named)


def train(network: nn.Module, x: Tensor, t: Tensor, **named: Any) -> None:
    network.zero_grad(set_to_none=True)
    network(x, t, **named).square().mean().backward()


def operations(run: Callable[[], object]) -> float:
    """Millions of floating-point operations a sample."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / BATCH / 1e6


def main() -> None:
    options = parser(__doc__ or "", rounds=15).parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    networks: dict[str, Any] = {
        "reference": reference_score_network(DIM),
        "fast": fast_score_network(DIM),
        "fast, attention": UNet1d(DIM, width=64, multipliers=(1, 2), context=DIM),
    }
    x, t, context = torch.randn(BATCH, STEPS, DIM), torch.rand(BATCH), torch.randn(BATCH, STEPS, DIM)
    mask = torch.arange(STEPS) < torch.randint(10, STEPS + 1, (BATCH, 1))
    masks = {"mask": mask, "context_mask": mask}
    candidates: dict[str, Callable[[], object]] = {}
    for name, network in networks.items():
        prepared, hidden = network.prepare(context), network.prepare(context, mask)
        candidates |= {
            name: partial(evaluate, network, x, t, context=context),
            f"{name}, prepared": partial(evaluate, network, x, t, prepared=prepared),
            f"{name}, masked": partial(evaluate, network, x, t, context=context, **masks),
            f"{name}, masked, prepared": partial(evaluate, network, x, t, prepared=hidden, mask=mask),
        }
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    counted = {name: operations(run) for name, run in candidates.items() if "masked" not in name}
    print(
        f"batch of {BATCH} x {STEPS} x {DIM}, {options.threads} threads\n\nmillions of parameters; operations a sample"
    )
    for name, count in parameters.items():
        print(f"  {name:16s} {count / 1e6:6.3f}; {counted[name]:6.2f}, prepared {counted[name + ', prepared']:6.2f}")
    print("\nevaluation")
    measured = take_turns(candidates, rounds=options.rounds, threads=options.threads, calls=2)
    rows = report(measured, relative_to="reference", task="evaluation")
    print("\nforward and backward")
    steps = {name: partial(train, network, x, t, context=context, **masks) for name, network in networks.items()}
    measured = take_turns(steps, rounds=options.rounds, threads=options.threads, calls=1)
    rows += report(measured, relative_to="reference", task="forward and backward")
    save(options, parameters=parameters, million_operations=counted, rows=rows)


if __name__ == "__main__":
    main()
