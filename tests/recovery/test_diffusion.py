"""Recovery: what it reads, what it draws, what its loss is; the law of what it draws is in ``test_diffusion_law``."""

import math
from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmaffect.diffusion import (
    VESDE,
    CosineVP,
    ancestral,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
)
from mmaffect.ops import keep, keyed_normal, masked_mean
from mmaffect.recovery import DiffusionRecovery, conditional_diffusion
from mmaffect.testing import Case, check_all

NAMES, DIM, STEPS = ("a", "b", "c"), 4, 5
KINDS = ("clean", "independent", "shared")


class Small(nn.Module):
    """Reads everything it is given: neighbouring steps, the time, the context at the step and on the whole."""

    def __init__(self):
        super().__init__()
        self.step, self.last, self.beside, self.whole = (nn.Linear(DIM, DIM) for _ in range(4))
        self.time, self.out = nn.Linear(1, DIM), nn.Linear(DIM, DIM)

    def forward(self, x, t, *, mask, context, context_mask):
        x = keep(x, mask)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        told = self.whole(masked_mean(context, context_mask)) + self.time(t.unsqueeze(1).to(x.dtype))
        hidden = self.step(x) + self.last(before) + self.beside(keep(context, context_mask)) + told.unsqueeze(1)
        return self.out(hidden.tanh())


def build(seed=0, network=Small, **options):
    """In float64, its zero-initialised parts moved so that everything shows, and fed with moments."""
    torch.manual_seed(seed)
    recovery = DiffusionRecovery(NAMES, DIM, network=network, **options).double()
    with torch.no_grad():
        for parameter in recovery.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name in NAMES:
        recovery.standards[name].update(3 + 2 * torch.randn(6, 7, DIM, dtype=torch.float64))
    return recovery.eval()


def scene(count=6, seed=0, steps=STEPS):
    """Latents, NaN where nothing is to be read; observed at some steps, wanted at others, neither at the rest."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(0, 3, (count, steps, len(NAMES)), generator=generator)
    state[1] = 0  # a sample of which everything is there
    observed = {name: state[:, :, i] == 0 for i, name in enumerate(NAMES)}
    wanted = {name: state[:, :, i] == 1 for i, name in enumerate(NAMES)}
    latents = {
        name: torch.where(
            (observed[name] | wanted[name]).unsqueeze(-1),
            3 + 2 * torch.randn(count, steps, DIM, generator=generator, dtype=torch.float64),
            torch.nan,
        )
        for name in NAMES
    }
    return latents, observed, wanted


def take(given, rows):
    return tuple({name: x[rows] for name, x in part.items()} for part in given)


def blanked(latents, observed, value):
    return {name: torch.where(observed[name].unsqueeze(-1), x, value) for name, x in latents.items()}


def assert_equal(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, equal_nan=False)


@pytest.mark.parametrize("sampler", [dpmpp_2m, partial(dpmpp_2m, eta=1.0), heun, ddim, ancestral, euler_maruyama,
                                     predictor_corrector])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_what_is_filled_and_what_stays_empty(sampler, kind):
    recovery, (latents, observed, wanted) = build(condition_noise=kind), scene()
    recovered = recovery.recover(
        blanked(latents, observed, torch.nan), observed, wanted, sampler=sampler, evaluations=4, draws=2
    )
    for name in NAMES:
        assert recovered[name].shape == (2, 6, STEPS, DIM)
        for draw in recovered[name]:
            assert torch.equal(draw[observed[name]], latents[name][observed[name]])  # bit for bit
            assert (draw[~observed[name] & ~wanted[name]] == 0).all()
            assert draw[wanted[name]].isfinite().all()
            assert (draw[wanted[name]] != 0).all()
        assert not torch.equal(recovered[name][0], recovered[name][1])
        assert not recovered[name].requires_grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("draws", [None, 3])
def test_keys_make_it_independent_of_batch_order_mates_and_padding(kind, draws):
    recovery, given_scene = build(condition_noise=kind), scene()
    keys = torch.tensor([11, 5, 7, 100, 2**40, 3])
    whole = recovery.recover(*given_scene, keys=keys, draws=draws)
    sample_axis = 0 if draws is None else 1
    for rows in ([4, 2, 0, 1, 3, 5], [3], [1, 2]):
        rows = torch.tensor(rows)
        part = recovery.recover(*take(given_scene, rows), keys=keys[rows], draws=draws)
        assert_equal({n: x.index_select(sample_axis, rows) for n, x in whole.items()}, part)
    latents, observed, wanted = (
        {n: nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, 3), value=v) for n, x in part.items()}
        for part, v in zip(given_scene, (torch.nan, False, False), strict=True)
    )
    padded = recovery.recover(latents, observed, wanted, keys=keys, draws=draws)
    assert_equal(whole, {n: x[..., :STEPS, :] for n, x in padded.items()})
    assert all((x[..., STEPS:, :] == 0).all() for x in padded.values())
    other = recovery.recover(*given_scene, keys=keys, seed=1, draws=draws)
    assert not torch.allclose(other["a"], whole["a"])


@pytest.mark.parametrize("kind", KINDS)
def test_gathered_rows_equal_the_whole_batch(kind):
    given_scene, keys = scene(), torch.arange(6)
    results = []
    for everything in (False, True):
        recovery = build(condition_noise=kind).train()
        gather = (lambda wanted: None) if everything else conditional_diffusion._rows
        with patch.object(conditional_diffusion, "_rows", gather):
            loss = recovery.loss(*given_scene, generator=torch.Generator().manual_seed(0))
            loss.backward()
            recovered = recovery.recover(*given_scene, keys=keys, draws=2)
        results.append(({n: p.grad for n, p in recovery.named_parameters()} | {"loss": loss}, recovered))
    assert_equal(results[0][0], results[1][0])
    assert_equal(results[0][1], results[1][1])


def test_only_samples_that_want_something_are_evaluated():
    seen = []

    class Count(nn.Module):
        def forward(self, x, t, *, mask, context, context_mask):
            seen.append(len(x))
            return x

    recovery, (latents, observed, wanted) = build(network=Count), scene()
    numbers = [int(wanted[name].any(1).sum()) for name in NAMES]
    assert 0 < max(numbers) < 6
    recovery.loss(latents, observed, wanted)
    assert seen == numbers
    seen.clear()
    recovery.recover(latents, observed, wanted, draws=3, evaluations=4)
    assert seen == [3 * n for n in numbers for _ in range(4)]
    seen.clear()
    nothing = {name: torch.zeros_like(mask) for name, mask in wanted.items()}
    recovery.recover(latents, observed, nothing)
    assert seen == []


def test_every_parameter_has_a_gradient_though_nothing_is_wanted():
    recovery, (latents, observed, _) = build().train(), scene()
    nothing = {name: torch.zeros_like(mask) for name, mask in observed.items()}
    loss = recovery.loss(latents, observed, nothing)
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in recovery.parameters())


def by_hand(recovery, given_scene, kind, generator):
    """The loss entry by entry from its definition, around the whole network; noise drawn in the order of the layer."""
    latents, observed, wanted = given_scene
    process, total, entries = recovery.process, 0.0, 0
    standard = {}
    for name in NAMES:
        moments = recovery.standards[name]
        standard[name] = (latents[name] - moments.mean) / moments.var.sqrt()
    count = len(latents["a"])
    for name in NAMES:
        part = recovery.parts[name]
        t = process.t_min + (process.t_max - process.t_min) * torch.rand(count, generator=generator)
        noise = torch.randn(count, STEPS, DIM, generator=generator, dtype=torch.float64)
        added = noise.unsqueeze(2).expand(count, STEPS, len(NAMES), DIM)
        if kind == "independent":
            added = torch.randn(count, STEPS, len(NAMES), DIM, generator=generator, dtype=torch.float64)
        context = torch.zeros(count, STEPS, DIM, dtype=torch.float64)
        seen = torch.zeros(count, STEPS, dtype=torch.bool)
        for b in range(count):
            alpha, std = process.alpha(t[b]), process.std(t[b])
            for step in range(STEPS):
                slots = []
                for place, other in enumerate(NAMES):
                    there = bool(observed[other][b, step])
                    value = standard[other][b, step] if there else torch.zeros(DIM, dtype=torch.float64)
                    if there and kind != "clean":
                        value = alpha * value + std * added[b, step, place]
                    slots += [value, torch.tensor([float(there)], dtype=torch.float64)]
                    seen[b, step] |= there
                if seen[b, step]:
                    context[b, step] = part.fuse.fuse(torch.cat(slots))
        alpha, std = process.alpha(t)[:, None, None], process.std(t)[:, None, None]
        x0 = keep(standard[name], wanted[name])
        x = keep(alpha * x0 + std * noise, wanted[name])
        out = part.denoiser.net(x, t, mask=wanted[name], context=context, context_mask=seen)
        for b, step in wanted[name].nonzero().tolist():
            total = total + (out[b, step] - noise[b, step]).square().sum()
            entries += DIM
    return total / entries


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("process", [VESDE(), CosineVP()])
def test_loss_against_a_loop(kind, process):
    recovery = build(condition_noise=kind, process=process, preconditioning="none")
    latents, observed, wanted = given_scene = scene()
    loss = recovery.loss(latents, observed, wanted, generator=torch.Generator().manual_seed(3))
    expected = by_hand(recovery, given_scene, kind, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)  # times are float32


class Recorder(nn.Module):
    """Estimates zero and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, x, t, *, mask, context, context_mask):
        self.told.append((x, t, context, context_mask))
        return torch.zeros_like(x)


@pytest.mark.parametrize("kind", ["independent", "shared"])
def test_noisy_conditions_are_noised_anew_at_every_evaluation(kind):
    """By keyed noise of a stream of its own for each modality and evaluation; the same for both kinds, as published."""
    recovery = build(condition_noise=kind, network=Recorder, preconditioning="none")
    given_scene, keys, draws = scene(), torch.arange(6) + 50, 2
    recovery.recover(*given_scene, keys=keys, draws=draws, evaluations=4)
    latents, observed, wanted = given_scene
    there = torch.stack([observed[n] for n in NAMES], 2)
    clean = torch.stack([recovery.standards[n](latents[n], observed[n]) for n in NAMES], 2)
    every = []
    for place, name in enumerate(NAMES):
        part, rows = recovery.parts[name], wanted[name].any(1)
        assert len(part.denoiser.net.told) == 4
        for evaluation, (_, t, context, context_mask) in enumerate(part.denoiser.net.told):
            noise = keyed_normal(
                0, place + 3 * (evaluation + 1), torch.arange(draws).view(-1, 1, 1, 1, 1), keys.view(-1, 1, 1, 1),
                torch.arange(STEPS).view(-1, 1, 1), torch.arange(3).view(-1, 1), torch.arange(DIM), dtype=torch.float64,
            )  # fmt: skip
            every.append(noise.flatten())
            noised = (clean + recovery.process.std(t[0]) * noise)[:, rows].flatten(0, 1)
            mask = there[rows].repeat(draws, 1, 1, 1)[0] if draws == 1 else torch.cat([there[rows]] * draws)
            torch.testing.assert_close(context, part.fuse(noised, mask), rtol=1e-6, atol=1e-6)
            assert torch.equal(context_mask, mask.any(2))
    correlation = torch.corrcoef(torch.stack(every)) - torch.eye(len(every))
    assert correlation.abs().max() < 5 / math.sqrt(len(every[0]))


def test_a_clean_condition_is_prepared_once():
    class Prepared(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.prepared = Small(), 0

        def prepare(self, context, context_mask):
            self.prepared += 1
            return context, context_mask

        def forward(self, x, t, *, mask, context=None, context_mask=None, prepared=None):
            context, context_mask = prepared or (context, context_mask)
            return self.net(x, t, mask=mask, context=context, context_mask=context_mask)

    given_scene, keys = scene(), torch.arange(6)
    for kind, times in (("clean", 1), ("independent", 0)):
        plain, preparing = build(condition_noise=kind), build(network=Prepared, condition_noise=kind)
        weights = {n.replace("net.net", "net"): v for n, v in preparing.state_dict().items()}
        plain.load_state_dict(weights)
        assert_equal(plain.recover(*given_scene, keys=keys), preparing.recover(*given_scene, keys=keys))
        assert [preparing.parts[n].denoiser.net.prepared for n in NAMES] == [times] * 3


def test_given_noise_is_the_start():
    recovery, given_scene, keys = build(), scene(), torch.arange(6)
    places = [torch.arange(n).view(-1, *[1] * (3 - i)) for i, n in enumerate((2, 6, STEPS, DIM))]
    noise = {n: keyed_normal(0, i, *places, dtype=torch.float64) for i, n in enumerate(NAMES)}
    assert_equal(
        recovery.recover(*given_scene, noise=noise, draws=2), recovery.recover(*given_scene, keys=keys, draws=2)
    )
    first = {n: x[0] for n, x in noise.items()}
    assert_equal(recovery.recover(*given_scene, noise=first), recovery.recover(*given_scene, keys=keys))
    by_generator = [recovery.recover(*given_scene, generator=torch.Generator().manual_seed(i))["a"] for i in (0, 0, 1)]
    assert torch.equal(by_generator[0], by_generator[1])
    assert not torch.equal(by_generator[0], by_generator[2])


def trained(value, kind, steps=5):
    """Weights and moments after several steps of an optimiser, with ``value`` wherever nothing is known."""
    recovery = build(condition_noise=kind).train()
    optimiser = torch.optim.AdamW(recovery.parameters(), lr=1e-2)
    for step in range(steps):
        latents, observed, wanted = scene(seed=step)
        latents = {n: x.nan_to_num(nan=value) if not math.isnan(value) else x for n, x in latents.items()}
        optimiser.zero_grad()
        recovery.loss(latents, observed, wanted, generator=torch.Generator().manual_seed(step)).backward()
        optimiser.step()
    return recovery.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_truly_missing_values_are_never_read_in_training(kind):
    weights = trained(torch.nan, kind)
    untouched = build(condition_noise=kind).state_dict()
    assert all(x.isfinite().all() for x in weights.values())
    assert any(not torch.equal(weights[n], untouched[n]) for n in weights)
    for value in (0.0, 1e9):
        other = trained(value, kind)
        assert all(torch.equal(weights[n], other[n]) for n in weights)


def test_gradients_reach_latents_that_ask_for_them_and_nothing_else():
    recovery, (latents, observed, wanted) = build().train(), scene()
    recovery.loss(latents, observed, wanted).backward()
    asked = {n: x.clone().requires_grad_() for n, x in latents.items()}
    recovery.loss(asked, observed, wanted).backward()
    for name in NAMES:
        known = (observed[name] | wanted[name]).unsqueeze(-1)
        gradient = asked[name].grad
        assert (gradient[~known.expand_as(gradient)] == 0).all()
        assert (gradient[wanted[name]] != 0).any()
        assert (gradient[observed[name]] != 0).any()
        assert gradient.isfinite().all()
        assert latents[name].grad is None


def test_what_is_wanted_is_no_part_of_the_condition():
    recovery, (latents, observed, wanted) = build(network=Recorder, preconditioning="none"), scene()
    both = {n: observed[n] | wanted[n] for n in NAMES}
    recovery.recover(blanked(latents, observed, torch.nan), both, wanted, keys=torch.arange(6))
    overlapping = [context for n in NAMES for _, _, context, _ in recovery.parts[n].denoiser.net.told]
    for part in recovery.parts.values():
        part.denoiser.net.told.clear()
    recovery.recover(latents, observed, wanted, keys=torch.arange(6))
    apart = [context for n in NAMES for _, _, context, _ in recovery.parts[n].denoiser.net.told]
    assert all(torch.equal(a, b) for a, b in zip(overlapping, apart, strict=True))
    assert all(context.isfinite().all() for context in apart)


def test_moments_follow_training_only():
    recovery, (latents, observed, wanted) = build(), scene()
    before = {n: x.clone() for n, x in recovery.named_buffers()}
    recovery.loss(latents, observed, wanted)
    recovery.recover(latents, observed, wanted)
    assert all(torch.equal(x, before[n]) for n, x in recovery.named_buffers())
    recovery.train().loss(latents, observed, wanted)
    for name in NAMES:
        known = (observed[name] | wanted[name]).sum()
        assert recovery.standards[name].steps == before[f"standards.{name}.steps"] + known


def test_units_are_the_callers():
    """Latents scaled and moved by feature are recovered scaled and moved."""
    given_scene, keys = scene(), torch.arange(6)
    scale, shift = torch.tensor([1e-3, 1.0, 50.0, 4.0]).double(), torch.tensor([0.0, -5.0, 7.0, 1e3]).double()
    moved = {n: scale * x + shift for n, x in given_scene[0].items()}, *given_scene[1:]
    recovered = []
    for given_latents in (given_scene, moved):
        recovery = build().train()
        for standard in recovery.standards.values():
            standard.steps.zero_()
        recovery.loss(*given_latents)
        recovered.append(recovery.recover(*given_latents, keys=keys))
    for name in NAMES:
        there = (given_scene[1][name] | given_scene[2][name]).unsqueeze(-1)
        expected = keep(scale * recovered[0][name] + shift, there.squeeze(-1))
        torch.testing.assert_close(recovered[1][name], expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4))
def test_any_subset_any_length(seed, count, steps, modalities):
    generator = torch.Generator().manual_seed(seed)
    names = tuple(f"m{i}" for i in range(modalities))
    recovery = DiffusionRecovery(names, DIM, network=Small)
    state = {n: torch.randint(0, 3, (count, steps), generator=generator) for n in names}
    observed, wanted = ({n: s == kind for n, s in state.items()} for kind in (0, 1))
    latents = {n: torch.randn(count, steps, DIM, generator=generator) for n in names}
    assert recovery.loss(latents, observed, wanted).isfinite()
    recovered = recovery.recover(blanked(latents, observed, torch.nan), observed, wanted, evaluations=2)
    for name in names:
        assert recovered[name].isfinite().all()
        assert torch.equal(recovered[name][observed[name]], latents[name][observed[name]])


@pytest.mark.parametrize("network", ["fast", "reference"])
def test_named_networks(network):
    recovery = DiffusionRecovery(("a", "b"), 8, network=network)
    latents = {n: torch.randn(3, 5, 8) for n in ("a", "b")}
    there = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    observed, wanted = {"a": there, "b": ~there}, {"a": ~there, "b": there}
    recovery.loss(latents, observed, wanted).backward()
    recovered = recovery.recover(latents, observed, wanted, draws=2, evaluations=3)
    assert all(x.isfinite().all() and x.shape == (2, 3, 5, 8) for x in recovered.values())


def test_refusals():
    for options, message in (
        ({"names": ()}, "names: expected a list of modalities, at least one and each once"),
        ({"names": ("a", "a")}, "names: expected a list of modalities, at least one and each once"),
        ({"dim": 0}, "dim: expected a value > 0"),
        ({"network": "quick"}, "network: 'quick' is unknown"),
        ({"condition_noise": "some"}, "condition_noise: 'some' is unknown"),
        ({"horizon": 0}, "horizon: expected a value > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            DiffusionRecovery(**({"names": NAMES, "dim": DIM, "network": Small} | options))
    recovery, (latents, observed, wanted) = build(), scene()
    for options, message in (
        ({"latents": {"a": latents["a"]}}, r"latents: expected the modalities \('a', 'b', 'c'\), got \('a',\)"),
        (
            {"latents": latents | {"b": latents["b"][:, :2]}},
            r"latents\['b'\]: expected shape \(B, T, D\) with B = 6, T",
        ),
        ({"observed": observed | {"b": observed["b"].float()}}, r"observed\['b'\]: expected bool"),
        ({"wanted": wanted | {"c": wanted["c"][:2]}}, r"wanted\['c'\]: expected shape \(B, T\) with B = 6, T = 5"),
        ({"draws": 0}, "draws: expected a value > 0, got 0"),
        ({"evaluations": 1}, "evaluations: expected at least 2, got 1"),
        ({"keys": torch.arange(5)}, r"keys: expected shape \(B\) with B = 6, got \(5,\)"),
        ({"keys": torch.rand(6)}, "keys: expected an int64 tensor"),
        ({"noise": {}}, "noise: expected the modalities"),
        ({"noise": latents, "draws": 2}, r"noise\['a'\]: expected shape \(K, B, T, D\)"),
    ):
        with pytest.raises(ValueError, match=message):
            recovery.recover(**({"latents": latents, "observed": observed, "wanted": wanted} | options))


class Loss(nn.Module):
    """The loss in the place of a forward; what is known is wanted where it is hidden."""

    def __init__(self, **options):
        super().__init__()
        self.recovery = build(**options).float()

    def extra_repr(self):
        return ""

    def forward(self, latents, known, hidden):
        wanted = {name: known[name] & hidden[name] for name in NAMES}
        observed = {name: known[name] & ~hidden[name] for name in NAMES}
        return self.recovery.loss(latents, observed, wanted)


class Recover(Loss):
    """Recovery with keyed noise."""

    def forward(self, latents, known, hidden, keys):
        wanted = {name: hidden[name] & ~known[name] for name in NAMES}
        return self.recovery.recover(latents, known, wanted, keys=keys, evaluations=3, draws=None)


def contract(build_layer, masks_of, **options):
    latents, observed, wanted = scene(count=3)
    known = {n: observed[n] | wanted[n] for n in NAMES} if masks_of == "both" else observed
    latents = {n: x.float().nan_to_num() for n, x in latents.items()}
    along = {f"hidden.{n}": (f"known.{n}", (1,)) for n in NAMES}
    return Case(
        build=build_layer,
        inputs={"latents": latents, "known": known, "hidden": wanted} | options.pop("inputs", {}),
        masks={"latents": "known"},
        along=along,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_contract_of_the_loss(kind):
    checks = ["padding", "batch_order", "absent_values", "dtypes", "autocast", "compile", "export"]
    rest = ["batch_mates", "zeros", "subsets", "nothing_left", "gradients", "determinism", "inputs_kept", "state_dict",
            "pickle", "reset"]  # fmt: skip
    case = contract(lambda: Loss(condition_noise=kind), "both", stochastic=True)
    check_all(case, only=checks + rest if kind == "clean" else ["padding", "absent_values", "batch_order"])


def test_contract_of_recovery():
    case = contract(Recover, "observed", inputs={"keys": torch.tensor([4, 9, 1])})
    check_all(
        case,
        only=["padding", "batch_order", "absent_values", "dtypes", "autocast", "inputs_kept", "determinism",
              "state_dict", "compile", "export"],
    )  # fmt: skip
