"""The prior over latents: what it is told and when, what it draws from, and that it learns."""

import copy

import pytest
import torch

from mmaffect.diffusion import VPSDE, CosineVP, LatentPrior, ancestral, dpmpp_2m
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
KNOWN = torch.tensor([True, False, True])
PER_STEP = torch.tensor([[True, False, True, True, False], [False] * 5, [True, True, False, True, True]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def prior(**options):
    """Of latents of three numbers and conditions of two, its parameters moved from where they start."""
    torch.manual_seed(0)
    made = LatentPrior(3, 2, **{"width": 4, **options})
    with torch.no_grad():  # the U-Net's last layers start at zero, and would hide what it is told
        for parameter in made.denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.average.module.load_state_dict(made.denoiser.state_dict())
    return made.eval()


class Recorder(torch.nn.Module):
    """Predicts a function of the latents plus a weighed sum of what it is told, and keeps the last."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([1.0, 2.0, 4.0, 8.0]))  # of two conditions, none, and context
        self.told = []

    def forward(self, x, t, condition, mask=None):
        self.told.append(condition)
        shift = (condition * self.weights).sum(-1, keepdim=True)
        return torch.sin(x) + (shift if shift.dim() == 3 else shift.unsqueeze(1))


def recorded(**options):
    """A prior with a context of one number, its network and the average's in the hands of a recorder."""
    made, recorder = prior(context=1, **options), Recorder()
    made.denoiser.net = made.average.module.net = recorder
    return made, recorder.told


# The contract.


class Draw(torch.nn.Module):
    """A sample in the place of the loss; ``like`` has its shape, and is not read."""

    def __init__(self, **options):
        super().__init__()
        self.prior = LatentPrior(3, 2, width=4, **options)

    def extra_repr(self):
        return ""

    def forward(self, like, **inputs):
        return self.prior.sample(sampler=dpmpp_2m, evaluations=3, **inputs)


BY_SAMPLE = (
    {"context": 2},
    {"condition": draw(3, 2, seed=1), "known": KNOWN, "context": draw(3, 2, seed=2)},
    {"present": {"condition": "known"}},
)
BY_STEP = (
    {},
    {"condition": draw(3, 5, 2, seed=1), "known": PER_STEP},
    {"masks": {"condition": "known"}},
)


@pytest.mark.parametrize(("told", "slow"), [(BY_SAMPLE, ["compile", "gradients"]), (BY_STEP, ["compile", "export"])])
def test_the_loss_keeps_the_contract(told, slow):
    options, inputs, gates = told
    check_all(
        Case(
            build=lambda: LatentPrior(3, 2, width=4, **options),
            inputs={"z": draw(3, 5, 3), "mask": MASK, **inputs},
            masks={"z": "mask", **gates.get("masks", {})},
            present=gates.get("present", {}),
            stochastic=True,
            exempt=dict.fromkeys(slow, "left to the other of these cases, or to a test of its own"),
        )
    )


@pytest.mark.parametrize("told", [BY_SAMPLE, BY_STEP])
def test_samples_keep_what_of_the_contract_concerns_them(told):
    options, inputs, gates = told
    check_all(
        Case(
            build=lambda: Draw(**options),
            inputs={"like": draw(3, 5, 3), "mask": MASK, **inputs},
            masks={"like": "mask", **gates.get("masks", {})},
            present=gates.get("present", {}),
            aligned={"output": "mask"},
            stochastic=True,
        ),
        only=["padding", "absent_values", "batch_order", "batch_mates", "inputs_kept", "state_dict", "pickle"],
    )


# What the network is told.


def test_it_is_told_the_condition_or_that_there_is_none_and_the_context():
    made, seen = recorded()
    made.loss(draw(3, 5, 3), torch.tensor([[5, 6], [7, 8], [9, 10]]), known=KNOWN, context=torch.ones(3, 1))
    assert seen[0].tolist() == [[5, 6, 0, 1], [0, 0, 1, 1], [9, 10, 0, 1]]
    condition, context = draw(3, 5, 2), draw(3, 5, 1)
    made.loss(draw(3, 5, 3), condition, known=PER_STEP, context=context, mask=MASK)
    for sample in range(3):
        for step in range(5):
            of_step = [*condition[sample, step].tolist(), 0.0] if PER_STEP[sample, step] else [0.0, 0.0, 1.0]
            assert seen[1][sample, step].tolist() == [*of_step, context[sample, step].item()]
    made.loss(draw(3, 5, 3), torch.zeros(3, 2, dtype=torch.bool), context=torch.ones(3, 1))
    assert seen[2].tolist() == [[0, 0, 0, 1]] * 3  # known by default


@pytest.mark.parametrize(("known", "shape"), [(KNOWN, (3, 2)), (PER_STEP, (3, 5, 2))])
def test_what_is_withheld_is_not_read(known, shape):
    made, z = prior(), draw(3, 5, 3)
    condition = draw(*shape, seed=1)
    spoilt = condition.masked_fill(~known.unsqueeze(-1), torch.nan).requires_grad_()

    def loss(condition):
        return made.loss(z, condition, known=known, mask=MASK, generator=seeded())

    assert torch.equal(loss(spoilt), loss(condition))
    assert not torch.equal(loss(condition + 1), loss(condition))  # what is known is
    loss(spoilt).backward()
    assert not spoilt.grad[~known].any()
    assert spoilt.grad.isfinite().all()
    one, other = (
        made.sample(c, known=known, mask=MASK, evaluations=2, generator=seeded()) for c in (spoilt, condition)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("per_step", [False, True])
def test_training_withholds_the_conditions_of_a_share_of_the_samples_and_nothing_else(per_step):
    made, seen = recorded(null_rate=0.3)
    steps = (2,) if per_step else ()
    z, condition, known = draw(4000, 2, 3), torch.ones(4000, *steps, 2), torch.ones(4000, *steps, dtype=torch.bool)
    known[:1000] = False
    for mode in (True, False):
        made.train(mode).loss(z, condition, known=known, context=torch.ones(4000, *steps, 1), generator=seeded())
    trained, evaluated = (told.reshape(4000, -1, 4) for told in seen)
    assert torch.equal(trained, trained[:, :1].expand_as(trained))  # a sample as a whole
    withheld = trained[:, 0, 2] == 1
    assert withheld[:1000].all()
    assert withheld[1000:].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(trained[:, 0, 0] == 0, withheld)
    assert (trained[..., 3] == 1).all()
    assert torch.equal(evaluated[:, 0, 2] == 1, ~known.reshape(4000, -1)[:, 0])


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_training_may_withhold_nothing_or_everything(rate):
    made, seen = recorded(null_rate=rate)
    made.train().loss(draw(50, 2, 3), torch.ones(50, 2), context=torch.ones(50, 1))
    assert (seen[0][:, 2] == rate).all()


# Guidance and the average.


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, None])
def test_guidance_is_ho_and_salimans(guidance):
    """Their eq. 6, (1 + w) eps(c) - w eps(null) with w = guidance - 1, on noise that is known in closed form."""
    made, seen = recorded(guidance=3.0)
    made.double()
    x, t = draw(3, 5, 3).double(), torch.tensor([0.2, 0.5, 0.9]).double()
    condition, context = draw(3, 2, seed=1).double(), draw(3, 1, seed=2).double()
    found = made.guided(condition, context=context, guidance=guidance)(x, t)
    w = 2.0 if guidance is None else guidance - 1
    with_it = torch.sin(x) + (condition[:, :1] + 2 * condition[:, 1:] + 8 * context).unsqueeze(1)
    without = torch.sin(x) + (4 + 8 * context).unsqueeze(1)
    noise = (1 + w) * with_it - w * without
    process = CosineVP()
    alpha, std = process.alpha(t).view(3, 1, 1), process.std(t).view(3, 1, 1)
    torch.testing.assert_close(found, (x - std * noise) / alpha)
    assert [len(told) for told in seen] == [3 if guidance in (0.0, 1.0) else 6]  # one call


def test_without_a_condition_guidance_changes_nothing():
    made, nothing = prior().double(), torch.zeros(3, dtype=torch.bool)
    one, other = (
        made.sample(draw(3, 2), known=nothing, steps=4, guidance=g, evaluations=3, generator=seeded())
        for g in (0.0, 5.0)
    )
    torch.testing.assert_close(one, other)


def test_samples_come_from_the_average_and_losses_from_the_network():
    made, condition = prior(), draw(3, 2)

    def drawn():
        return made.sample(condition, steps=4, evaluations=2, generator=seeded())

    def loss():
        return made.loss(draw(3, 4, 3), condition, generator=seeded())

    first, error = drawn(), loss()
    with torch.no_grad():
        made.denoiser.net.leave.weight.add_(1.0)
    assert torch.equal(drawn(), first)
    assert not torch.equal(loss(), error)
    made.update()
    assert not torch.allclose(drawn(), first)
    assert not drawn().requires_grad
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert trained == {f"denoiser.{name}" for name, _ in made.denoiser.named_parameters()}


class Exact(torch.nn.Module):
    """The noise in latents of N(c, 0.5²), c the first condition: what a network could at best say."""

    def __init__(self):
        super().__init__()
        self.variance = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, x, t, condition, mask=None):
        process = CosineVP()
        alpha, std = process.alpha(t).view(-1, 1, 1), process.std(t).view(-1, 1, 1)
        mean = condition[:, :1].unsqueeze(1)
        return std * (x - alpha * mean) / (self.variance * alpha**2 + std**2)


def test_of_an_exact_network_the_samples_have_the_law_of_the_latents():
    made = prior()
    made.average.module.net = Exact()
    condition = torch.tensor([[2.0, 0.0], [-1.0, 0.0]]).repeat_interleave(1000, 0)
    z = made.sample(condition, steps=2, guidance=1.0, generator=seeded()).unflatten(0, (2, 1000))
    # Sampling starts around 0, where latents of mean m are around alpha(t_max) m = m / 40; half of that is left.
    torch.testing.assert_close(z.mean((1, 2, 3)), 79 / 80 * torch.tensor([2.0, -1.0]), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std((1, 2, 3)), torch.tensor([0.5, 0.5]), atol=0.02, rtol=0)


# Shapes, randomness, state.


def test_steps_are_those_asked_for_or_those_of_what_has_some():
    made = prior()
    assert made.sample(torch.ones(2, 2), steps=7, evaluations=1).shape == (2, 7, 3)
    assert made.sample(torch.ones(2, 4, 2), evaluations=1).shape == (2, 4, 3)
    z = made.sample(torch.ones(3, 2), mask=MASK, evaluations=1)
    assert z.shape == (3, 5, 3)
    assert not z[~MASK].any()
    assert z[MASK].all()


def test_conditions_may_be_of_any_kind_of_number_and_latents_of_either_precision():
    made, classes = prior(), torch.tensor([1, 0, 1])
    one_hot = torch.nn.functional.one_hot(classes, 2)
    losses = [made.loss(draw(3, 5, 3), c, generator=seeded()) for c in (one_hot, one_hot.bool(), one_hot.double())]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])
    drawn = [made.sample(c, steps=2, evaluations=2, generator=seeded()) for c in (one_hot, one_hot.float())]
    assert torch.equal(*drawn)
    made.double()
    assert made.sample(one_hot, steps=2, evaluations=2).dtype == torch.float64
    assert made.loss(draw(3, 5, 3).double(), one_hot).dtype == torch.float64


def test_randomness_comes_from_the_generator_alone():
    made, condition = prior().train(), draw(3, 2)
    before = torch.get_rng_state()
    losses = [made.loss(draw(3, 5, 3), condition, generator=seeded(seed)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    drawn = [  # ancestral draws at every step
        made.sample(condition, steps=4, sampler=ancestral, evaluations=3, generator=seeded(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_call_is_the_loss():
    made, inputs = prior(context=1), {"context": draw(3, 1), "known": KNOWN, "mask": MASK}
    given = draw(3, 5, 3), draw(3, 2)
    assert torch.equal(made(*given, **inputs, generator=seeded()), made.loss(*given, **inputs, generator=seeded()))


def test_the_latents_learn_from_it_unless_they_are_detached():
    z = draw(3, 5, 3).requires_grad_()
    prior().loss(z, draw(3, 2), mask=MASK).backward()
    assert z.grad[MASK].any(-1).all()
    assert not z.grad[~MASK].any()


def test_the_state_holds_the_average():
    made, condition = prior(), draw(3, 2)
    with torch.no_grad():
        made.denoiser.net.leave.weight.add_(1.0)
    made.update()
    other = LatentPrior(3, 2, width=4)
    other.load_state_dict(made.state_dict())
    twin = copy.deepcopy(made)
    for _ in range(2):  # the second time after an update, which follows the network that was loaded or copied
        drawn = [p.sample(condition, steps=4, evaluations=2, generator=seeded()) for p in (made, other, twin)]
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
        for changed in (made, other, twin):
            with torch.no_grad():
                changed.denoiser.net.leave.weight.mul_(2.0)
            changed.update()


def test_options_reach_the_parts():
    made = LatentPrior(3, 2, context=4, width=6, process=VPSDE(), prediction="v", ema_decay=0.5)
    assert made.denoiser.net.embed_condition.in_features == 2 + 1 + 4
    assert (made.denoiser.net.width, made.denoiser.net.dim) == (6, 3)
    assert (made.denoiser.process, made.denoiser.prediction) == (VPSDE(), "v")
    assert (made.average.decay, made.average.warmup) == (0.5, True)
    assert LatentPrior(3, 2, width=4).denoiser.process == CosineVP()


def test_training_compiles_whole():
    made = prior().train()
    torch.compiler.reset()
    found = []
    for loss in (made.loss, torch.compile(made.loss, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(0)
        made.zero_grad()
        value = loss(draw(3, 5, 3), draw(3, 2), known=KNOWN, mask=MASK)
        value.backward()
        found.append([value, *(parameter.grad for parameter in made.denoiser.parameters())])
    torch.testing.assert_close(*found)
    torch.compiler.reset()


# Learning.


def test_it_learns_to_tell_two_classes_apart():
    torch.manual_seed(0)
    made = LatentPrior(2, 2, width=8, prediction="v", ema_decay=0.98)
    optimizer = torch.optim.Adam(made.parameters(), lr=5e-3)
    means = torch.tensor([[1.0, -0.5], [-1.0, 0.5]])
    for _ in range(100):
        labels = torch.randint(2, (64,))
        z = means[labels].unsqueeze(1) + 0.3 * torch.randn(64, 3, 2)
        optimizer.zero_grad()
        made.loss(z, torch.nn.functional.one_hot(labels, 2)).backward()
        optimizer.step()
        made.update()
    labels = torch.arange(400) % 2
    condition = torch.nn.functional.one_hot(labels, 2)

    def drawn(**options):
        return made.sample(condition, steps=3, sampler=dpmpp_2m, evaluations=8, generator=seeded(), **options)

    plain = drawn(guidance=1.0)
    of_class = torch.stack([plain[labels == c].mean((0, 1)) for c in (0, 1)])
    torch.testing.assert_close(of_class, means, atol=0.2, rtol=0)
    assert plain[labels == 0].std((0, 1)).max() < 0.6  # 0.3 in truth, and 1.0 of both classes together
    named = torch.cdist(drawn().mean(1), means).argmin(1)
    assert (named == labels).float().mean() > 0.97
    anything = torch.cdist(drawn(known=torch.zeros(400, dtype=torch.bool)).mean(1), means).argmin(1)
    assert 0.3 < anything.float().mean() < 0.7


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim: expected a value > 0, got 0"),
        ({"condition": 0}, "condition: expected a value > 0, got 0"),
        ({"context": -1}, "context: expected a width >= 0, got -1"),
        ({"width": 5}, "width: expected an even number > 0, got 5"),
        ({"null_rate": 1.5}, "null_rate: expected a share from 0 to 1, got 1.5"),
        ({"ema_decay": 1.0}, "ema_decay: expected a share from 0 to below 1, got 1.0"),
        ({"prediction": "z"}, "prediction: 'z' is unknown"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LatentPrior(**{"dim": 3, "condition": 2, "width": 4, **options})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": draw(3, 5, 4)}, r"z: expected shape \(B, T, D\) with D = 3, got \(3, 5, 4\)"),
        ({"condition": torch.ones(3)}, r"condition: expected shape \(B, C\) with B = 3, C = 2, got \(3,\)"),
        ({"condition": draw(3, 5)}, r"condition: expected shape \(B, C\) with B = 3, C = 2, got \(3, 5\)"),
        ({"known": KNOWN.float()}, "known: expected bool, True = is there, got torch.float32"),
        ({"known": PER_STEP}, r"known: expected shape \(B\) with B = 3, got \(3, 5\)"),
        ({"context": None}, r"context: expected a tensor \(context = 1\), got None"),
        ({"context": draw(3, 2)}, r"context: expected shape \(B, K\) with B = 3, K = 1, got \(3, 2\)"),
        ({"context": draw(3, 5, 1)}, r"context: expected shape \(B, K\) with B = 3, K = 1, got \(3, 5, 1\)"),
        ({"mask": MASK.int()}, "mask: expected bool, True = is there, got torch.int32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    made = prior(context=1)
    given = {
        "z": draw(3, 5, 3),
        "condition": draw(3, 2),
        "known": KNOWN,
        "context": draw(3, 1),
        "mask": MASK,
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        made.loss(**given)
    if "z" not in changes:
        given.pop("z")
        with pytest.raises(ValueError, match=message):
            made.sample(**given, evaluations=1)


def test_another_number_of_steps_is_refused_and_so_is_none():
    made = prior()
    with pytest.raises(ValueError, match=r"condition: expected shape \(B, T, C\) with B = 3, T = 5, C = 2, got"):
        made.loss(draw(3, 5, 3), draw(3, 4, 2))
    with pytest.raises(ValueError, match="steps: expected a number, as neither condition nor mask has steps, got None"):
        made.sample(draw(3, 2))
    with pytest.raises(ValueError, match=r"condition: expected shape \(B, T, C\) with B = 3, T = 4, C = 2, got"):
        made.sample(draw(3, 5, 2), steps=4)
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 3, T = 4, got"):
        made.sample(draw(3, 2), steps=4, mask=MASK)
    with pytest.raises(ValueError, match=r"context: expected None \(context = 0\), got a tensor of shape \(3, 1\)"):
        made.sample(draw(3, 2), steps=4, context=draw(3, 1))


@pytest.mark.parametrize(
    ("condition", "options", "message"),
    [
        (torch.tensor([0, 1]), {}, r"condition: expected shape \(B, C\)"),
        (torch.tensor(1.0), {"steps": 2}, r"condition: expected shape \(B, C\)"),
        (draw(3, 2), {"mask": MASK[0]}, r"mask: expected shape \(B, T\)"),
        (draw(3, 2), {"mask": MASK[:2]}, r"mask: expected shape \(B, T\) with B = 3"),
        (draw(3, 2), {"steps": 0}, "steps: expected a value > 0, got 0"),
        (draw(3, 2), {"steps": 4, "evaluations": 0}, "evaluations: expected a value > 0, got 0"),
    ],
)
def test_samples_of_what_cannot_be_told_are_refused(condition, options, message):
    with pytest.raises(ValueError, match=message):
        prior().sample(condition, **options)
