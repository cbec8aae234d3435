"""What does a recovery cost? The default sampler against Euler-Maruyama, around one network and around a leaner one.

    python benchmarks/recovery.py [--threads 2] [--rounds 3] [--quick] [--out benchmarks/results/recovery.json]

IMDer's sizes: 32 samples of 48 steps, latents of 32, one modality of three absent. "reference" is the published score
network, "fast" the library's default. "prepared" computes once a trajectory what depends on the condition alone;
"unprepared" hides that from the same network, with the same parameters, so every evaluation computes it again, as
the published code does. Before anything is timed, both must recover the same. Every recovery is run whole,
500 evaluations too, and candidates take turns: only ratios of one run mean anything. A round is about seven minutes
on two cores, half of that with ``--only "fast prepared"``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor, nn

from mmaffect.diffusion import Process, dpmpp_2m, euler_maruyama, uniform_times
from mmaffect.recovery import DiffusionRecovery

BATCH, STEPS, DIM = 32, 48, 32
NAMES = ("words", "face", "voice")
ABSENT = "words"
KINDS = ("reference unprepared", "reference prepared", "fast unprepared", "fast prepared")
BASE = f"{KINDS[0]}, EM 500"


class Unprepared(nn.Module):
    """A network of which nobody knows that it could prepare."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        return self.network(x, t, **cond)


def recoveries() -> dict[str, DiffusionRecovery]:
    """By name; prepared and unprepared share all parameters."""
    torch.manual_seed(0)
    found = {
        "reference prepared": DiffusionRecovery(NAMES, DIM, network="reference"),
        "fast prepared": DiffusionRecovery(NAMES, DIM, network="fast"),
    }
    for kind in ("reference", "fast"):
        prepared = found[f"{kind} prepared"]
        networks = iter([Unprepared(part.denoiser.net) for part in prepared.parts.values()])
        twin = DiffusionRecovery(NAMES, DIM, network=lambda networks=networks: next(networks))
        for own, other in zip(twin.parts.values(), prepared.parts.values(), strict=True):
            own.fuse = other.fuse
        found[f"{kind} unprepared"] = twin
    return {name: recovery.eval() for name, recovery in found.items()}


def problem() -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    latents = {name: torch.randn(BATCH, STEPS, DIM, generator=generator) for name in NAMES}
    wanted = {name: torch.full((BATCH, STEPS), name == ABSENT) for name in NAMES}
    return {"latents": latents, "observed": {n: ~w for n, w in wanted.items()}, "wanted": wanted}


def recover(recovery: DiffusionRecovery, sampler: str, evaluations: int) -> Tensor:
    generator, run = torch.Generator().manual_seed(0), imder_steps if sampler == "EM" else dpmpp_2m
    return recovery.recover(**problem(), sampler=run, evaluations=evaluations, generator=generator)[ABSENT]


def imder_steps(denoise: Any, process: Process, x: Tensor, steps: int, **options: Any) -> Tensor:
    """Euler-Maruyama as IMDer takes it, in steps that are equal in time."""
    return euler_maruyama(denoise, process, x, steps, times=uniform_times(process, steps), **options)


def evaluate(recovery: DiffusionRecovery) -> Callable[[], Tensor]:
    """One evaluation of the network alone, its condition prepared where it may be."""
    network, generator = recovery.parts[ABSENT].denoiser.net, torch.Generator().manual_seed(0)
    x, context = (torch.randn(BATCH, STEPS, DIM, generator=generator) for _ in range(2))
    mask, t = torch.ones(BATCH, STEPS, dtype=torch.bool), torch.full((BATCH,), 0.5)
    told: dict[str, Any] = {"context": context, "context_mask": mask}
    if hasattr(network, "prepare"):
        with torch.no_grad():
            told = {"prepared": network.prepare(context, mask)}

    def run() -> Tensor:
        with torch.no_grad():
            return network(x, t, mask=mask, **told)

    return run


def main() -> None:
    """Check, time and print."""
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--quick", action="store_true", help="50 evaluations where there should be 500: a smoke test")
    options.add_argument(
        "--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="some beside the first"
    )
    given = options.parse_args()
    keep_memory()
    torch.set_num_threads(given.threads)
    timed = [kind for kind in KINDS if kind == KINDS[0] or kind in given.only]
    found = recoveries()
    sizes = {kind: sum(p.numel() for p in r.parts[ABSENT].denoiser.net.parameters()) for kind, r in found.items()}
    deviations = {}
    for kind in ("reference", "fast"):
        one, other = (recover(found[f"{kind} {how}"], "2M", 5) for how in ("prepared", "unprepared"))
        deviations[kind] = ((one - other).abs().max() / one.abs().max()).item()
        if not deviations[kind] < 1e-3:
            raise SystemExit(f"{kind}: prepared and unprepared differ by {deviations[kind]:.1e}")
    print(f"largest relative deviation of prepared from unprepared: { {k: f'{v:.0e}' for k, v in deviations.items()} }")

    print(f"\none evaluation, {BATCH} x {STEPS} x {DIM}, {given.threads} threads")
    evaluations = take_turns(
        {kind: evaluate(r) for kind, r in found.items()}, rounds=3 * given.rounds, threads=given.threads, calls=5
    )
    rows = report(evaluations, relative_to="reference unprepared", what="evaluation")
    for kind, size in sizes.items():
        print(f"  {kind}: {size:,} parameters")

    long = 50 if given.quick else 500
    print(f"\none recovery of {BATCH} samples, {given.threads} threads")
    # Short runs between the long ones, so that a drift of the machine meets both.
    turns = (("2M", 10), ("EM", 100), ("2M", 14), ("EM", 500), ("2M", 20))
    plan = [(kind, sampler, n) for kind in timed for sampler, n in turns]
    candidates = {
        f"{kind}, {sampler} {n}": partial(recover, found[kind], sampler, min(n, long) if sampler == "EM" else n)
        for kind, sampler, n in plan
    }
    measured = take_turns(candidates, rounds=given.rounds, threads=given.threads)
    rows += report(measured, relative_to=BASE, what="recovery")

    print("\nhow many times as fast, by the medians")
    for kind in timed:
        for n in (10, 14, 20):
            median = measured[f"{kind}, 2M {n}"].median
            same, base = measured[f"{kind}, EM 500"].median / median, measured[BASE].median / median
            print(f"  {kind}, 2M {n}: {same:6.1f} as EM 500 around the same, {base:6.1f} as {BASE}")
            print(f"  {'':{len(kind)}s}        {1e3 * median / BATCH:6.2f} ms a sample")
    if given.quick:
        print(f"--quick: what is called EM 500 and EM 100 made {long} evaluations")
    save(given, rows=rows, parameters=sizes, deviations=deviations)


if __name__ == "__main__":
    main()
