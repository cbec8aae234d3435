"""Affect-Diff against its specification: sizes, what reaches what, the curriculum, ablations, sampling."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from examples.systems import affect_diff
from mmaffect.data import DataSpec, synthetic_affect
from mmaffect.losses import focal_cross_entropy
from mmaffect.testing import random_batch
from mmaffect.training import Progress, TrainConfig, fit, protocol
from mmaffect.training.step import clip_gradients, make_optimizer

REFERENCE = DataSpec({"words": 300, "voice": 74, "face": 35}, "class", tuple("abcdef"), "single")
SPEC = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", 2, class_shares=(0.6, 0.3, 0.1))
NARROW = {"hidden": 8, "heads": 2, "layers": 1, "feed_forward": 8, "prior_width": 8, "kernels": (1, 3)}
LATE = Progress("train", 50, 100, 0.5)  # everything is phased in


def system(spec=SPEC, **changes):
    torch.manual_seed(0)
    model = affect_diff.System(affect_diff.Config(**(NARROW | changes)), spec)
    with torch.no_grad():  # the U-Net's last layers start at zero, and would stop every gradient behind them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def batch():
    return random_batch(SPEC, (6, 4, 5), absent=0.2, unlabelled=0.2, generator=torch.Generator().manual_seed(0))


def gradients(model, term):
    """Norm of the gradient that each part of the system gets from a term."""
    model.zero_grad()
    term.backward()
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = name.split(".")[0]
            found[part] = found.get(part, 0.0) + parameter.grad.norm().item()
    return found


# Sizes: tables VI and the text, in millions.


@pytest.mark.parametrize(
    ("changes", "total", "trainable"),
    [
        ({}, 8.92, 5.19),
        ({"variational": False}, 8.92, 5.19),
        (affect_diff.ABLATIONS["no diffusion"], 1.47, 1.47),
        (affect_diff.ABLATIONS["classifier only"], 1.47, 1.47),
    ],
)
def test_numbers_of_parameters_are_the_papers_within_3_percent(changes, total, trainable):
    model = affect_diff.System(affect_diff.Config(**changes), REFERENCE)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    assert sum(n for n, _ in sizes) / 1e6 == pytest.approx(total, rel=0.03)
    assert sum(n for n, learns in sizes if learns) / 1e6 == pytest.approx(trainable, rel=0.03)


# Who learns from what.


def test_the_prior_teaches_nothing_but_itself(batch):
    model = system()
    found = gradients(model, model.loss(batch, batch, LATE)["diffusion"])
    assert set(found) == {"prior"}
    assert found["prior"] > 0


def test_without_the_stop_gradient_it_teaches_the_encoders_the_graph_and_the_bottleneck(batch):
    model = system(stop_gradient=False)
    found = gradients(model, model.loss(batch, batch, LATE)["diffusion"])
    for part in ("inputs", "fronts", "encoders", "gate", "fusion", "bottleneck"):
        if any(True for _ in getattr(model, part).parameters()):
            assert found[part] > 0, part
    assert "head" not in found  # what the classifier reads, the prior never sees


def test_in_training_mode_too(batch):
    model = system().train()
    assert set(gradients(model, model.loss(batch, batch, LATE)["diffusion"])) == {"prior"}


def test_the_classifier_teaches_everything_but_the_prior(batch):
    model = system()
    found = gradients(model, model.loss(batch, batch, LATE)["task"])
    assert "prior" not in found
    assert all(found[part] > 0 for part in ("fronts", "encoders", "gate", "fusion", "bottleneck", "head"))


@pytest.mark.parametrize("joint", [False, True])
def test_only_joint_clipping_couples_the_prior_to_the_rest(batch, joint):
    """The step of the classifier's group, with a prior whose gradient is large and one whose gradient is small."""
    steps = []
    for scale in (1.0, 1e3):
        model = system(diffusion_weight=scale)
        config = TrainConfig(joint_clipping=joint, learning_rate=1e-2)
        optimizer = make_optimizer(model, config)
        torch.manual_seed(1)
        sum(model.loss(batch, batch, LATE).values()).backward()
        clip_gradients(optimizer, 0.1, "here", joint=joint)
        assert [group["name"] for group in optimizer.param_groups] == ["classifier", "prior"]
        steps.append(model.head[0].weight.grad.clone())
    assert torch.allclose(*steps, rtol=1e-4, atol=0) != joint


def test_the_groups_hold_every_trainable_parameter_once():
    model = system()
    groups = [p for group in model.parameter_groups() for p in group["params"] if p.requires_grad]
    assert len({id(p) for p in groups}) == len(groups)
    assert {id(p) for p in groups} == {id(p) for p in model.parameters() if p.requires_grad}


# The terms.


def test_the_terms_are_the_specifications(batch):
    config = {"beta": 0.2, "graph_weight": 0.3, "diffusion_weight": 0.4, "free_bits": 0.05}
    model = system(**config)
    terms = model.loss(batch, batch, LATE)
    assert set(terms) == {"task", "kl", "graph", "diffusion"}
    code, there = model.encode(batch), batch.observed("dialogue")
    task = focal_cross_entropy(
        model(batch)[there],
        batch.targets[there],
        gamma=model.config.gamma,
        label_smoothing=model.config.label_smoothing,
    )
    torch.testing.assert_close(terms["task"], task)
    by_dimension = []
    real = code.real
    _, mean, log_var, _ = model.bottleneck(fused(model, batch), real)
    for k in range(8):
        m, v = mean[real][:, k], log_var[real][:, k]
        by_dimension.append(((m**2 + v.exp() - 1 - v) / 2).mean())
    torch.testing.assert_close(terms["kl"], 0.2 * sum((kl - 0.05).clamp(min=0) for kl in by_dimension))
    penalties = []
    hidden, there = model.streams(batch)
    for b, t in itertools.product(range(3), range(6)):
        if real[b, t]:
            penalties.append(model.gate(hidden[b : b + 1, t], there[b : b + 1, t]).penalty)
    torch.testing.assert_close(terms["graph"], 0.3 * torch.stack(penalties).mean())


def fused(model, batch):
    """What enters the bottleneck, turn by turn, by the equations."""
    hidden, there = model.streams(batch)
    out = torch.zeros(*hidden.shape[:2], 8)
    for b, t in itertools.product(range(hidden.shape[0]), range(hidden.shape[1])):
        weights = model.gate(hidden[b : b + 1, t], there[b : b + 1, t]).weights[0]
        gated = weights[:, None] * there[b, t].sum() * hidden[b, t]
        out[b, t] = model.fusion(dict(zip(SPEC.names, gated, strict=True)))
    return out


@pytest.mark.parametrize(
    ("epoch", "terms", "kl", "diffusion"), [(0, 3, 0.0, None), (9, 3, 0.3, None), (19, 4, 19 / 30, 0.5), (30, 4, 1, 1)]
)
def test_curriculum(batch, epoch, terms, kl, diffusion):
    model = system(free_bits=0.0)
    full, found = (model.loss(batch, batch, Progress("train", e, 100, e / 100)) for e in (60, epoch))
    assert len(found) == terms
    torch.testing.assert_close(found["kl"], kl * full["kl"])
    if diffusion is not None:
        torch.manual_seed(0)
        full = model.loss(batch, batch, Progress("train", 60, 100, 0.6))
        torch.manual_seed(0)
        found = model.loss(batch, batch, Progress("train", epoch, 100, epoch / 100))
        torch.testing.assert_close(found["diffusion"], diffusion * full["diffusion"])


def test_a_shorter_training_has_the_same_curriculum(batch):
    long, short = (
        system(free_bits=0.0).loss(batch, batch, Progress("train", e, n, e / n)) for e, n in ((15, 100), (3, 20))
    )
    torch.testing.assert_close(long["kl"], short["kl"])


def test_ablations_take_their_part_away(batch):
    terms = {name: set(system(**c).loss(batch, batch, LATE)) for name, c in affect_diff.ABLATIONS.items()}
    whole = {"task", "kl", "graph", "diffusion"}
    assert terms == {
        "no diffusion": whole - {"diffusion"},
        "no causal graph": whole - {"graph"},
        "Gumbel": whole,
        "no stop-gradient": whole,
        "no VAE": whole - {"kl"},
        "classifier only": {"task"},
    }
    model = system(**affect_diff.ABLATIONS["no causal graph"])
    weights = model.encode(batch).weights
    there = model.streams(batch)[1]
    torch.testing.assert_close(weights[there.all(2)], torch.full_like(weights[there.all(2)], 0.5))
    sampled = system(**affect_diff.ABLATIONS["Gumbel"]).train()
    drawn = {round(w, 3) for w in sampled.encode(batch).weights.flatten().tolist()}
    assert drawn <= {0.0, 0.5, 1.0}  # of edges that are there or not
    noiseless = system(**affect_diff.ABLATIONS["no VAE"]).train()
    code = noiseless.encode(batch)
    assert torch.equal(code.z, code.mean)


def test_the_latent_is_drawn_in_training_and_the_mean_at_inference(batch):
    model = system()
    assert torch.equal(model.encode(batch).z, model.encode(batch).mean)
    model.train()
    code = model.encode(batch)
    assert not torch.equal(code.z[code.real], code.mean[code.real])


# Sequences.


@pytest.mark.parametrize("sequence", ["dialogue", "window"])
def test_context_reads_the_fused_steps_of_the_same_sample_that_are_there(sequence):
    spec = replace(SPEC, sequence=sequence, speakers=0)
    batch = random_batch(spec, (6, 4, 5), generator=torch.Generator().manual_seed(0))
    assert system(spec).context is None
    model, fused = system(spec, context_layers=1), []

    def note(module, inputs):
        fused.append(inputs[0].masked_fill(~inputs[1].unsqueeze(2), torch.nan).detach().requires_grad_())
        return fused[0], inputs[1]

    with torch.no_grad():
        expected = model.encode(batch).mean
    model.context.register_forward_pre_hook(note)
    code = model.encode(batch)
    torch.testing.assert_close(code.mean[code.real], expected[code.real])
    (reached,) = torch.autograd.grad(code.mean[1, 0].sum(), fused[0])
    assert (reached[1].abs().sum(1) > 0).tolist() == code.real[1].tolist()
    assert (reached[[0, 2]] == 0).all()
    assert "context" in gradients(model, model.loss(batch, batch, LATE)["task"])


def test_a_window_is_pooled_over_its_real_steps_and_has_one_graph():
    spec = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "window")
    model = system(spec)
    batch = random_batch(spec, (4, 2), generator=torch.Generator().manual_seed(0))
    code = model.encode(batch)
    assert code.weights.shape == (2, 2)
    assert code.mean.shape == (2, 4, 8)
    scores = model.pool.score(torch.tanh(model.pool.project(code.mean[1, :2]))).softmax(0)
    torch.testing.assert_close(model.represent(batch)[1], (scores * code.mean[1, :2]).sum(0))
    assert model(batch).shape == (2, 3)


def test_modalities_with_own_steps_are_laid_side_by_side():
    spec = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "single")
    model = system(spec)
    batch = random_batch(spec, (4, 2), generator=torch.Generator().manual_seed(0))
    hidden, there = model.streams(batch)
    assert there.tolist() == [
        [[True, True], [True, True], [True, False], [True, False]],
        [[True, True], [True, True], [False, True], [False, True]],
    ]
    assert (hidden[~there] == 0).all()


def test_kernels_follow_the_order_of_the_modalities():
    model = affect_diff.System(affect_diff.Config(**(NARROW | {"kernels": (1, 5, 3)})), REFERENCE)
    assert model.kernels == {"words": 1, "voice": 5, "face": 3}
    assert isinstance(model.fronts["words"], torch.nn.Linear)
    assert [model.fronts[n].convolution.kernel_size for n in ("voice", "face")] == [(5,), (3,)]
    assert [model.encoders[n].positions for n in model.kernels] == ["sinusoidal", "none", "none"]
    near = affect_diff.System(affect_diff.Config(**(NARROW | {"positions": "distance"})), REFERENCE)
    assert {encoder.positions for encoder in near.encoders.values()} == {"distance"}
    last = affect_diff.System(affect_diff.Config(**(NARROW | {"kernels": (5,)})), REFERENCE)
    assert set(last.kernels.values()) == {5}


# What the prior is told, and what it gives.


def test_the_prior_is_told_the_label_where_there_is_one():
    model = system()
    assert model.condition(torch.tensor([2, -100, 1])).int().tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, 0]]
    nan = float("nan")
    scores = system(DataSpec({"a": 4}, "score", ("v", "w"), "single"))
    assert scores.condition(torch.tensor([[1.5, nan], [nan, nan]])).tolist() == [[1.5, 0.0], [0.0, 0.0]]
    one = system(DataSpec({"a": 4}, "score", ("v",), "dialogue"))
    assert one.condition(torch.tensor([[1.5, nan, -1.0]])).tolist() == [[[1.5], [0.0], [-1.0]]]
    several = system(DataSpec({"a": 4}, "multilabel", ("x", "y"), "single"))
    assert several.condition(torch.tensor([[1, -100], [0, 1]])).tolist() == [[1, 0], [0, 1]]


def test_the_prior_is_told_of_turns_that_are_labelled_and_of_the_weights_that_the_gate_gave(monkeypatch, batch):
    model, told = system(), {}
    monkeypatch.setattr(model.prior, "loss", lambda z, condition, **rest: told.update(rest, z=z) or z.sum())
    model.loss(batch, batch, LATE)
    code = model.encode(batch)
    assert torch.equal(told["known"], (batch.targets != -100) & batch.observed("dialogue"))
    assert torch.equal(told["context"], code.weights)
    assert torch.equal(told["z"], code.z)
    assert torch.equal(told["mask"], code.real)


def test_the_config_is_the_priors():
    prior = system(prediction="v", null_rate=0.3, guidance=4.0, ema_decay=0.9).prior
    assert (prior.null_rate, prior.guidance) == (0.3, 4.0)
    assert (prior.average.decay, prior.denoiser.prediction) == (0.9, "v")
    assert prior.denoiser.net.width == NARROW["prior_width"]


def test_samples():
    model = system()
    labels = torch.tensor([[0, 1, 2, -100], [2, 2, 2, 2]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])

    def draw(**options):
        return model.sample(labels, mask=mask, evaluations=3, generator=torch.Generator().manual_seed(0), **options)

    z = draw()
    assert z.shape == (2, 4, 8)
    assert torch.equal(z, draw())
    assert not z.requires_grad
    assert not torch.allclose(z, draw(guidance=1.0))
    assert not torch.allclose(z, draw(weights=torch.tensor([1.0, 0.0])))
    pooled = system(DataSpec({"a": 4}, "class", ("x", "y"), "window"))
    assert pooled.sample(torch.tensor([0, 1, 1]), steps=7, evaluations=2).shape == (3, 7, 8)
    with pytest.raises(ValueError, match="prior: expected a system with a prior to sample from, it was built without"):
        system(prior=False).sample(labels)


def test_samples_come_from_the_average():
    model = system()
    labels = torch.zeros(2, 4, dtype=torch.int64)
    before, after, averaged = [], [], []
    for found in (before, after, averaged):
        found.append(model.sample(labels, evaluations=2, generator=torch.Generator().manual_seed(0)))
        if found is before:
            with torch.no_grad():
                model.prior.denoiser.net.leave.weight.add_(1.0)
        if found is after:
            model.after_step()
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(after[0], averaged[0])


@pytest.mark.parametrize(("prediction", "of_their_class"), [("v", True), ("eps", False)])
def test_after_few_steps_a_prior_draws_classes_only_if_it_predicts_v(prediction, of_their_class):
    """Why the remedy that trains on drawn latents asks for v where the training is short."""
    spec = DataSpec({"a": 4}, "class", ("x", "y"), "single")
    torch.manual_seed(0)
    model = affect_diff.System(affect_diff.Config(**(NARROW | {"prediction": prediction, "prior_width": 16})), spec)
    optimizer = torch.optim.Adam(model.prior.parameters(), lr=3e-3)
    weights = torch.ones(16, 1)
    for _ in range(100):
        labels = torch.randint(2, (16,))
        z = (2.0 * labels[:, None, None] - 1) + 0.1 * torch.randn(16, 4, 8)
        optimizer.zero_grad()
        model.prior.loss(z, model.condition(labels), context=weights).backward()
        optimizer.step()
        model.after_step()
    labels = torch.arange(40) % 2
    drawn = model.sample(labels, steps=4, guidance=1.0, evaluations=8, generator=torch.Generator().manual_seed(0))
    near = (drawn.mean((1, 2)) - (2.0 * labels - 1)).abs() < 0.6
    assert (near.float().mean() > 0.9) == of_their_class


def test_drawn_latents_are_of_rare_classes_and_teach_the_classifier_alone(monkeypatch, batch):
    model = system(drawn=200, drawn_steps=2, drawn_evaluations=2).train()
    seen = []
    sample = model.sample
    monkeypatch.setattr(model, "sample", lambda labels, **options: seen.append(labels) or sample(labels, **options))
    term = model.loss(batch, batch, LATE)["drawn"]
    assert set(gradients(model, term)) == {"head"}
    (labels,) = seen
    assert labels.shape == (200, 2)
    assert torch.equal(labels[:, 0], labels[:, 1])
    shares = torch.bincount(labels[:, 0], minlength=3) / 200
    # 1/3 less their shares of .6, .3 and .1: only two classes lack anything, .033 and .233.
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.125, 0.875]), atol=0.06, rtol=0)
    early = model.loss(batch, batch, Progress("train", 20, 100, 0.2))
    assert "drawn" not in early
    with pytest.raises(ValueError, match="drawn: expected a prior, and classes with known shares"):
        system(drawn=2, prior=False)
    even = replace(SPEC, class_shares=(0.5, 0.5, 0.0))  # the third never occurs: the prior does not know it
    labels = []
    model = system(even, drawn=50, drawn_steps=1, drawn_evaluations=1)
    sample = model.sample
    monkeypatch.setattr(model, "sample", lambda given, **options: labels.append(given) or sample(given, **options))
    model.loss(batch, batch, LATE)
    assert set(labels[0].flatten().tolist()) <= {0, 1}


def test_adaptive_beta_follows_the_recall(batch):
    model = system(adaptive_beta=True, beta=0.2, free_bits=0.0)
    before = model.loss(batch, batch, LATE)["kl"]
    model.after_validation({f"per_class_recall/{c}": r for c, r in zip(SPEC.classes, (0.5, 0.0, 0.5), strict=True)})
    torch.testing.assert_close(model.loss(batch, batch, LATE)["kl"], before / 2)
    assert model.report()["beta"] == pytest.approx(0.1)
    model.after_validation({f"per_class_recall/{c}": 0.5 for c in SPEC.classes})
    assert model.report()["beta"] == pytest.approx(0.125)
    torch.testing.assert_close(system(beta=0.2, free_bits=0.0).loss(batch, batch, LATE)["kl"], before)


# Training.


def test_augmentation_is_for_training_and_leaves_labels_of_nothing_out(batch):
    assert not torch.equal(
        system(frame_masking=0.5).train().loss(batch, batch, LATE)["task"],
        system(frame_masking=0.0, noise=(0.0,), modality_dropout=0.0).train().loss(batch, batch, LATE)["task"],
    )
    torch.testing.assert_close(
        system(frame_masking=0.5, noise=(1.0,), modality_dropout=0.5).loss(batch, batch, LATE)["task"],
        system(frame_masking=0.0, noise=(0.0,), modality_dropout=0.0).loss(batch, batch, LATE)["task"],
    )


def test_noise_is_added_by_the_order_of_the_modalities_whatever_reads_them(batch):
    quiet = {"frame_masking": 0.0, "modality_dropout": 0.0, "kernels": (1,)}
    changed = system(noise=(0.0, 0.5), **quiet)._augmented(batch)
    assert torch.equal(changed.inputs["a"], batch.inputs["a"])
    added = (changed.inputs["b"] - batch.inputs["b"])[batch.masks["b"]]
    assert added.std().item() == pytest.approx(0.5, rel=0.4)
    first = system(noise=(0.5, 0.0), **quiet)._augmented(batch)
    assert torch.equal(first.inputs["b"], batch.inputs["b"])
    assert not torch.equal(first.inputs["a"], batch.inputs["a"])


def test_the_log_gets_the_mean_weights_of_what_is_there(batch):
    model = system(prior=False).train()
    assert model.report()["weights"] == {"a": 0.5, "b": 0.5}
    model.loss(batch, batch, LATE)
    weights = model.report()["weights"]
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights != {"a": 0.5, "b": 0.5}
    alone = batch.drop(torch.tensor([[True, False]] * 3))
    for _ in range(40):
        model.loss(alone, alone, LATE)
    assert model.report()["weights"] == pytest.approx({"a": 1.0, "b": 0.0}, abs=0.01)


def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path):
    """Also the average, β and the running weights, which no optimiser holds."""
    world = synthetic_affect({"a": 4, "b": 3}, sizes=(8, 4, 2), lengths=4, sequence="dialogue", seed=0)
    spec = world.train.spec
    changes = NARROW | {"drawn": 2, "drawn_evaluations": 2, "adaptive_beta": True, "epochs": 3}
    config = TrainConfig(batch_size=4, joint_clipping=True)
    none = protocol("none", spec.names)

    def run(out, stop=None):
        torch.manual_seed(0)
        model = affect_diff.System(affect_diff.Config(**changes), spec)
        if stop is not None:
            calls, inner = itertools.count(), model.after_step

            def after_step():
                inner()
                if next(calls) == stop:
                    raise KeyboardInterrupt

            model.after_step = after_step
        fit(model, world.train, world.valid, config, protocol=none, out=out, resume=True, checkpoint_steps=1)
        return model.state_dict()

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop=3)
    broken = run(tmp_path / "broken")
    assert any(name.startswith("prior.average.") for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, broken[name]), name


def test_the_sentiment_variant_is_milder_and_takes_scores_and_classes():
    assert affect_diff.Config(**affect_diff.SENTIMENT).gamma < affect_diff.Config().gamma
    for target, classes in (("class", tuple("abcdefg")), ("class", ("negative", "positive")), ("score", ("s",))):
        spec = DataSpec({"a": 5, "b": 3}, target, classes, "single")
        model = system(spec, **affect_diff.SENTIMENT)
        batch = random_batch(spec, (4, 3), generator=torch.Generator().manual_seed(0))
        assert model(batch).shape == ((2,) if target == "score" else (2, len(classes)))
        assert model.loss(batch, batch, LATE)["diffusion"].isfinite()
    out = model(batch)
    torch.testing.assert_close(model.loss(batch, batch, LATE)["task"], F.l1_loss(out, batch.targets))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="kernels: expected at least one, got none"):
        system(kernels=())
    with pytest.raises(ValueError, match="noise: expected at least one, got none"):
        system(noise=())
    with pytest.raises(ValueError, match="adaptive_beta: expected classes to be found, got target 'score'"):
        system(DataSpec({"a": 4}, "score", ("v",), "single"), adaptive_beta=True)
    with pytest.raises(ValueError, match="kernel: expected an odd number of steps, got 4"):
        system(kernels=(4,))
    with pytest.raises(ValueError, match="context_layers: expected a number >= 0, got -1"):
        system(context_layers=-1)


def test_class_weights_follow_the_shares(batch):
    weighted = system(balanced=True, gamma=0.0, label_smoothing=0.0).loss(batch, batch, LATE)["task"]
    model = system()
    there = batch.observed("dialogue") & (batch.targets != -100)
    weight = torch.tensor(SPEC.class_weights)
    rows = F.cross_entropy(model(batch)[there], batch.targets[there], weight=weight, reduction="sum")
    torch.testing.assert_close(weighted, rows / there.sum())


def test_classification_runs_nothing_of_the_prior(batch, monkeypatch):
    model = system()
    for part in model.prior.modules():
        monkeypatch.setattr(part, "forward", None)
    plain = system(prior=False)
    plain.load_state_dict({n: v for n, v in model.state_dict().items() if not n.startswith("prior.")})
    assert torch.equal(model(batch), plain(batch))
    hidden = replace(batch, targets=torch.full_like(batch.targets, -100))
    assert torch.equal(model(hidden), model(batch))
