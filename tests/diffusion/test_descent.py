"""The rules that all samplers keep: what they call, write, draw, tell and refuse."""

from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch
from torch import nn

from mmaffect.diffusion import (
    VESDE,
    CosineVP,
    DiscreteVP,
    Process,
    ddim,
    dpmpp_2m,
    heun,
    predictor_corrector,
    uniform_times,
)
from mmaffect.diffusion.descent import default_levels
from tests.diffusion.samplers import DETERMINISTIC, SAMPLERS, STOCHASTIC, evaluations

every = pytest.mark.parametrize("name", SAMPLERS)
PROCESS = CosineVP()
STEPS = 6
GENERATOR = torch.Generator()


def smooth(x, t):
    return torch.tanh(x) * (1 - 0.3 * t.reshape(-1, *(1,) * (x.dim() - 1)))


def start(*shape, dtype=torch.float64):
    return PROCESS.prior(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def run(name, denoise=smooth, x=None, steps=STEPS, seed=1, process=PROCESS, **options):
    x = start(4, 5, 3) if x is None else x
    return SAMPLERS[name](denoise, process, x, steps, generator=torch.Generator().manual_seed(seed), **options)


@every
def test_calls_the_denoiser_as_often_as_it_says_with_a_time_a_sample(name):
    seen = []

    def denoise(x, t):
        assert t.shape == (4,)
        assert t.dtype == x.dtype
        assert t.is_contiguous()
        assert (t == t[0]).all()
        seen.append(t[0].item())
        return smooth(x, t)

    for steps in (1, 2, STEPS):
        seen.clear()
        run(name, denoise, steps=steps)
        assert len(seen) == evaluations(name, steps)
        assert seen[0] == PROCESS.t_max
        assert steps == 1 or seen[-1] == PROCESS.t_min
        assert len(set(seen)) == steps


@every
def test_neither_the_start_nor_an_estimate_is_written_to(name):
    x = start(4, 5, 3)
    before, returned = x.clone(), []

    def denoise(x, t):
        x0 = smooth(x, t)
        returned.append((x0, x0.clone()))
        return x0

    with torch.no_grad():
        out = run(name, denoise, x)
    assert torch.equal(x, before)
    assert all(torch.equal(x0, copy) for x0, copy in returned)
    assert out is returned[-1][0]


@every
def test_a_denoiser_may_reuse_its_output(name):
    buffer = torch.empty(4, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(run(name, lambda x, t: buffer.copy_(smooth(x, t))), run(name))


@every
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.transpose(0, 1), lambda x: x[:, 1:2].expand_as(x)])
def test_a_denoiser_may_return_what_it_was_given(name, view):
    x = start(4, 4)
    with torch.no_grad():
        kept, copied = run(name, lambda x, t: view(x), x), run(name, lambda x, t: view(x).clone(), x)
    torch.testing.assert_close(kept, copied, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, start(4, 4))


@every
def test_writing_in_place_changes_no_result(name):
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        plain = run(name)
    kept = run(name, lambda x, t: smooth(x, t) * weight)
    assert kept.requires_grad
    torch.testing.assert_close(kept, plain, rtol=1e-13, atol=1e-13)
    with torch.inference_mode():
        assert torch.equal(run(name), plain)


@every
def test_gradients_flow_through_a_run(name):
    x = start(2, 3).requires_grad_()
    weight = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: run(name, lambda x, t: torch.tanh(weight * x), x, steps=4), (x, weight)
    )


@every
def test_only_late_steps_may_ask_for_a_gradient(name):
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def denoise(x, t):
        return smooth(x, t) * weight if t[0] < 0.5 else smooth(x, t)

    run(name, denoise).sum().backward()
    late = weight.grad.clone()
    weight.grad = None
    run(name, lambda x, t: smooth(x, t) * (weight if t[0] < 0.5 else weight.detach()), start(4, 5, 3)).sum().backward()
    assert late.abs() > 1e-3
    torch.testing.assert_close(weight.grad, late)


@every
def test_states_are_written_over_when_nothing_needs_them(name):
    places = set()

    def denoise(x, t):
        places.add(x.data_ptr())
        return smooth(x, t)

    with torch.no_grad():
        run(name, denoise, steps=20)
    assert len(places) <= 4  # the caller's x and at most three of the sampler's


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_nothing_is_drawn_where_nothing_is_needed(name):
    def refuse(*args, **kwargs):
        raise AssertionError("drew noise")

    with patch.object(torch.Tensor, "normal_", refuse):
        run(name)
    untouched = torch.Generator().manual_seed(5)
    SAMPLERS[name](smooth, PROCESS, start(2, 3), 4, generator=untouched)
    assert torch.equal(untouched.get_state(), torch.Generator().manual_seed(5).get_state())


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_comes_from_the_generator_alone(name):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(run(name, seed=3), run(name, seed=3))
    assert not torch.equal(run(name, seed=3), run(name, seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_samples_do_not_meet(name):
    x = start(4, 5, 3)
    together = run(name, x=x)
    torch.testing.assert_close(run(name, x=x[2:3]), together[2:3])
    torch.testing.assert_close(run(name, x=x.flip(0)), together.flip(0))


@every
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2, 2)])
def test_any_number_of_dimensions(name, shape):
    x = start(*shape)
    with torch.no_grad():
        assert run(name, x=x).shape == x.shape


@every
def test_strides_do_not_matter(name):
    x = start(4, 5, 3)
    with torch.no_grad():
        assert torch.equal(run(name, x=x.transpose(1, 2).contiguous().transpose(1, 2)), run(name, x=x))
        row = start(1, 5, 3)
        assert torch.equal(run(name, x=row.expand(4, 5, 3)), run(name, x=row.repeat(4, 1, 1)))
    with_graph = run(name, x=x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_())
    torch.testing.assert_close(with_graph, run(name, x=x), rtol=1e-13, atol=1e-13)  # the same noise, too


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_only_what_the_denoiser_loses(name, dtype):
    x = start(64, 8, dtype=dtype)

    def denoise(x, t):
        assert x.dtype == dtype
        assert t.dtype == torch.float32
        return (x.double() * 0.5).to(dtype)

    with torch.no_grad():
        out = run(name, denoise, x, steps=100)
        exact = run(name, lambda x, t: x * 0.5, x.float(), steps=100)
    assert out.dtype == dtype
    assert (out.float() - exact).abs().max() < 2 * torch.finfo(dtype).eps * exact.abs().max()


@every
def test_the_callback_is_told_every_level(name):
    told, given = [], []

    def denoise(x, t):
        given.append((t[0].item(), x.clone()))
        return smooth(x, t)

    with torch.no_grad():
        out = run(name, denoise, callback=lambda now: told.append(now._replace(x=now.x.clone(), x0=now.x0.clone())))
    assert [now.step for now in told] == list(range(STEPS))
    assert {now.steps for now in told} == {STEPS}
    assert [now.t for now in told] == list(dict.fromkeys(t for t, _ in given))
    assert torch.equal(told[0].x, start(4, 5, 3))
    assert torch.equal(told[-1].x0, out)
    for now in told:
        assert torch.equal(now.x0, smooth(now.x, torch.full((4,), now.t, dtype=torch.float64)))


@every
def test_times_may_be_chosen(name):
    times = uniform_times(PROCESS, STEPS)
    seen = []
    expected = run(name, times=times)
    for given in (times.tolist(), tuple(times.tolist()), times.clone().requires_grad_()):
        assert torch.equal(run(name, times=given), expected)
    run(name, times=times.float(), callback=lambda now: seen.append(now.t))  # a digit out of range, which is forgiven
    assert seen == pytest.approx(times.tolist())
    assert not torch.allclose(run(name), expected)


@pytest.mark.parametrize("name", ["heun", "ancestral"])
def test_a_compiled_denoiser(name):
    compiled = torch.compile(smooth, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(run(name, compiled), run(name))


@every
def test_a_run_compiles_whole_and_anew_for_another_process(name):
    torch.compiler.reset()
    sampler, x = SAMPLERS[name], start(4, 3)

    def whole(process, x):
        return sampler(smooth, process, x, STEPS)

    compiled = torch.compile(whole, backend="aot_eager", fullgraph=True)
    seen = []
    for process in (VESDE(5.0), VESDE(25.0), CosineVP()):
        with torch.no_grad():
            torch.manual_seed(0)
            expected = whole(process, x)
            torch.manual_seed(0)
            torch.testing.assert_close(compiled(process, x), expected)
        seen.append(expected)
    assert not torch.allclose(seen[0], seen[1])
    torch.compiler.reset()


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_under_vmap(name):
    x = start(3, 4, 5)
    together = torch.func.vmap(lambda x: SAMPLERS[name](smooth, PROCESS, x, STEPS))(x)
    apart = torch.stack([SAMPLERS[name](smooth, PROCESS, row, STEPS) for row in x])
    torch.testing.assert_close(together, apart)


@every
def test_under_transforms_of_what_the_denoiser_holds(name):
    """Of its parameters alone: the states are plain until they meet its first answer."""
    x, weights = start(3, 2), torch.tensor([0.8, 0.5], dtype=torch.float64)

    def out(weight):
        return run(name, lambda x, t: torch.tanh(weight * x), x, steps=4)

    apart = [out(weight) for weight in weights]
    torch.testing.assert_close(torch.func.vmap(out, randomness="same")(weights), torch.stack(apart))
    h = torch.tensor(1e-5, dtype=torch.float64)
    slope = (out(weights[0] + h) - out(weights[0] - h)) / (2 * h)
    torch.testing.assert_close(torch.func.jvp(out, (weights[0],), (h / h,))[1], slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.func.grad(lambda w: out(w).sum())(weights[0]), slope.sum(), rtol=1e-6, atol=1e-6)


@every
def test_the_default_device_does_not_matter(name):
    x, expected = start(4, 2), run(name, x=start(4, 2))
    with torch.device("meta"):  # which could tell no number
        assert torch.equal(SAMPLERS[name](smooth, PROCESS, x, STEPS, generator=GENERATOR.manual_seed(1)), expected)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "euler_maruyama"])
def test_levels_of_the_same_noise_are_refused(name):
    with pytest.raises(ValueError, match="times: expected less noise over signal at each of 3 steps, got"):
        run(name, process=DiscreteVP((0.3,)), steps=3)  # whose first step is its last


@every
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected an int of at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected an int of at least 1, got 2.5"),
        ({"x": torch.zeros(2, 3, dtype=torch.long)}, r"x: expected a floating tensor .* got torch.int64"),
        ({"x": torch.tensor(1.0)}, r"x: expected a floating tensor .* of shape \(\)"),
        ({"times": [0.9, 0.5]}, r"times: expected one for each of 6 steps, got shape \(2,\)"),
        ({"times": [[0.9, 0.5]], "steps": 2}, r"times: expected one for each of 2 steps, got shape \(1, 2\)"),
        ({"times": [0.5, 0.9], "steps": 2}, r"times: expected to decrease, got \[0.5, 0.9\]"),
        ({"times": [0.5, 0.5], "steps": 2}, "times: expected to decrease"),
        ({"times": [0.5, float("nan")], "steps": 2}, "times: expected to decrease"),
        ({"times": [1.0, 0.5], "steps": 2}, r"times: expected to lie in \[t_min, t_max\] = .*, got 1.0 to 0.5"),
        ({"times": [0.5, 0.0], "steps": 2}, r"times: expected to lie in \[t_min, t_max\] = .*, got 0.5 to 0.0"),
        ({"denoise": lambda x, t: x[..., :1]}, r"denoise: expected .* the shape of x, \(4, 5, 3\), got .* \(4, 5, 1\)"),
        ({"denoise": lambda x, t: x.float()}, "denoise: expected it to return torch.float64 .* got torch.float32"),
    ],
)
def test_what_cannot_be_run_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, **options)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m])
def test_eta_is_a_share(sampler, eta):
    with pytest.raises(ValueError, match="eta: expected a value from 0 to 1"):
        sampler(smooth, PROCESS, start(2, 3), 4, eta=eta)


def test_corrections_are_counted_and_of_a_size():
    calls = []
    predictor_corrector(lambda x, t: calls.append(t) or smooth(x, t), PROCESS, start(2, 3), 5, corrections=3)
    assert len(calls) == 5 + 3 * 4
    for options, message in [
        ({"corrections": 0}, "corrections: expected an int of at least 1, got 0"),
        ({"corrections": 1.5}, "corrections: expected an int of at least 1, got 1.5"),
        ({"snr": 0.0}, "snr: expected a value between 0 and 1, got 0.0"),
        ({"snr": 1.0}, "snr: expected a value between 0 and 1, got 1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            predictor_corrector(smooth, PROCESS, start(2, 3), 4, **options)


def test_a_time_of_one_row_reaches_all_dimensions():
    # Where B equals D an unexpanded time would scale columns; every sampler leaves the expansion to the denoiser, and
    # scales states by numbers alone.
    x = start(3, 3)
    for sampler in (ddim, heun, dpmpp_2m):
        out = sampler(smooth, VESDE(), x, 5)
        torch.testing.assert_close(out, sampler(smooth, VESDE(), x.T, 5).T)


@every
def test_a_schedule_is_kept_for_processes_that_cannot_change_and_for_no_others(name):
    class Straight(Process):
        t_min, t_max, slowest = 0.03, 0.975, 1.0

        def alpha(self, t):
            return 1 - t

        def std(self, t):
            return self.slowest * t

    @dataclass
    class Changeable(Straight):  # compared by value, so not hashable at all
        slowest: float = 1.0

    for process in (Straight(), Changeable()):
        before = run(name, process=process)
        process.slowest = 0.5
        fresh = type(process)()
        fresh.slowest = 0.5
        after = run(name, process=process)
        assert not torch.equal(after, before)
        assert torch.equal(after, run(name, process=fresh))
    assert default_levels(CosineVP(), 7) is default_levels(CosineVP(), 7)
    assert default_levels(CosineVP(), 7) != default_levels(CosineVP(s=0.01), 7)


def test_a_subclass_with_values_of_its_own_is_not_taken_for_another():
    class Louder(VESDE):  # equal by the fields of VESDE, of which the loudness is none
        def __init__(self, loudness):
            super().__init__(25.0)
            self.loudness = loudness

        def std(self, t):
            return self.loudness * super().std(t)

    assert Louder(1.0) == Louder(3.0)
    assert default_levels(Louder(3.0), 4)[0].std == pytest.approx(3 * default_levels(Louder(1.0), 4)[0].std)


class Run(nn.Module):
    """A run as a program, with a denoiser that has a parameter."""

    def __init__(self, name, steps, process):
        super().__init__()
        self.name, self.steps, self.process = name, steps, process
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return SAMPLERS[self.name](lambda x, t: self.factor * x, self.process, x, self.steps)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("steps", [1, 5])
def test_a_run_exports_though_its_schedule_was_never_met_and_leaves_the_schedule_numbers(name, steps):
    process = VESDE(20.0 + steps + 0.1 * list(DETERMINISTIC).index(name))
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=2)
        program = torch.export.export(Run(name, steps, process), (torch.randn(3, 4),), dynamic_shapes=({0: batch},))
    assert all(isinstance(number, float) for level in default_levels(process, steps) for number in level)
    x = torch.randn(5, 4)
    torch.testing.assert_close(program.module()(x), Run(name, steps, process)(x))
