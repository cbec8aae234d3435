"""What does an evaluation of the U-Net cost? Features last, as ours has them, against features first.

    python benchmarks/unet.py [--threads 2] [--out benchmarks/results/unet.json]

The peer is the same network as the field writes it: ``(B, D, T)`` from end to end, ``nn.Conv1d``, and a GroupNorm over
steps and features where ours normalises each step by itself. Layout, number of parameters and arithmetic of the
convolutions are the same; it knows no masks. The configuration is Affect-Diff's. "Guided" is classifier-free
guidance around our network, in one doubled batch and in two calls. Candidates are timed in turn, round by round, and
only ratios of one run mean anything.
"""

from functools import partial

import torch
import torch.nn.functional as F
from timing import keep_memory, parser, report, save, take_turns
from torch import Tensor, nn

from mmaffect.diffusion import UNet1d, classifier_free_guidance

BATCH, STEPS, DIM, CONDITION = 64, 50, 128, 128


class FirstBlock(nn.Module):
    """A residual block on ``(B, D, T)``."""

    def __init__(self, dim: int, out: int, told: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.GroupNorm(8, dim), nn.GroupNorm(8, out)
        self.first, self.second = nn.Conv1d(dim, out, 3, padding=1), nn.Conv1d(out, out, 3, padding=1)
        self.tell = nn.Linear(told, out)
        self.shortcut = nn.Identity() if dim == out else nn.Conv1d(dim, out, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        hidden = self.first(F.silu(self.first_norm(x))) + self.tell(told).unsqueeze(-1)
        return self.shortcut(x) + self.second(F.silu(self.second_norm(hidden)))


class FeaturesFirst(nn.Module):
    """The U-Net on ``(B, D, T)``, of three resolutions."""

    def __init__(self, ours: UNet1d) -> None:
        super().__init__()
        a, b, c = (ours.width * m for m in ours.multipliers)
        told = 2 * ours.width
        self.embed_time, self.embed_condition = ours.embed_time, ours.embed_condition
        self.enter = nn.Conv1d(ours.dim, a, 3, padding=1)
        self.down = nn.ModuleList(FirstBlock(*pair, told) for pair in ((a, a), (a, b), (b, c)))
        self.halve = nn.ModuleList(nn.Conv1d(size, size, 3, stride=2, padding=1) for size in (a, b))
        self.bottom = FirstBlock(c, c, told)
        self.up = nn.ModuleList(FirstBlock(*pair, told) for pair in ((a + b, a), (b + c, b), (c + c, c)))
        self.leave_norm, self.leave = nn.GroupNorm(8, a), nn.Conv1d(a, ours.dim, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        told = F.silu(self.embed_time(t) + self.embed_condition(condition))
        x, passed = self.enter(x), []
        for number, block in enumerate(self.down):
            x = block(self.halve[number - 1](x) if number else x, told)
            passed.append(x)
        x = self.bottom(x, told)
        for number in (2, 1, 0):
            x = x if number == 2 else x.repeat_interleave(2, dim=2)[:, :, : passed[number].shape[2]]
            x = self.up[number](torch.cat([x, passed[number]], dim=1), told)
        return self.leave(F.silu(self.leave_norm(x)))


def evaluate(network: nn.Module, *inputs: Tensor, **named: Tensor) -> Tensor:
    with torch.no_grad():
        return network(*inputs, **named)


def train(network: nn.Module, *inputs: Tensor, **named: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    network(*inputs, **named).square().mean().backward()


def main() -> None:
    options = parser(__doc__ or "", rounds=15).parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours = UNet1d(DIM, condition=CONDITION)
    theirs = FeaturesFirst(ours)
    count = sum(p.numel() for p in ours.parameters())
    if count != sum(p.numel() for p in theirs.parameters()):
        raise RuntimeError("the two networks do not have the same number of parameters")
    x, t, told = torch.randn(BATCH, STEPS, DIM), torch.rand(BATCH), torch.randn(BATCH, CONDITION)
    mask = torch.arange(STEPS) < torch.randint(10, STEPS + 1, (BATCH, 1))
    first = x.mT.contiguous()
    rows = []
    print(f"{count / 1e6:.2f} million parameters, batch of {BATCH} x {STEPS} x {DIM}, {options.threads} threads")
    for title, run in (("evaluation", evaluate), ("forward and backward", train)):
        print(f"\n{title}")
        candidates = {
            "features last": partial(run, ours, x, t, told),
            "features last, masked": partial(run, ours, x, t, told, mask=mask),
            "features first": partial(run, theirs, first, t, told),
        }
        measured = take_turns(candidates, rounds=options.rounds, threads=options.threads, calls=2)
        rows += report(measured, relative_to="features first", task=title)

    print("\nguided evaluation")
    null = torch.zeros(CONDITION)
    doubled = classifier_free_guidance(ours, 3.0, {"condition": told}, {"condition": null})
    alone = [classifier_free_guidance(ours, s, {"condition": told}, {"condition": null}) for s in (1.0, 0.0)]
    with torch.no_grad():
        measured = take_turns(
            {
                "unguided": partial(alone[0], x, t),
                "one doubled batch": partial(doubled, x, t),
                "two calls": lambda: torch.lerp(alone[1](x, t), alone[0](x, t), 3.0),
            },
            rounds=options.rounds,
            threads=options.threads,
            calls=2,
        )
    rows += report(measured, relative_to="unguided", task="guided evaluation")
    save(options, parameters=count, rows=rows)


if __name__ == "__main__":
    main()
