"""IMDer against its specification: sizes, what learns when and from what, the regimes, recoveries, draws."""

from dataclasses import replace

import pytest
import torch

from examples.systems import imder
from mmaffect.data import DataSpec, MultimodalDataset
from mmaffect.recovery import DiffusionRecovery
from mmaffect.testing import random_batch
from mmaffect.training import Progress, TrainConfig, evaluate_all, fit, protocol
from mmaffect.training.order import derive

SPEC = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", 2, class_shares=(0.6, 0.3, 0.1))
SMALL = {
    "hidden": 8,
    "heads": 2,
    "layers": 1,
    "memory_layers": 1,
    "network": "fast",
    "network_width": 8,
    "evaluations": 3,
    "training_evaluations": 2,
    "refinement_width": 16,
    "refinement_blocks": 1,
}
COMPLETE, RECOVERY, MISSING = (Progress(name, 0, 1, 0.0) for name in ("complete", "recovery", "missing"))


def system(spec=SPEC, **changes):
    torch.manual_seed(0)
    model = imder.System(imder.Config(**(SMALL | changes)), spec)
    with torch.no_grad():  # last layers start at zero, and would stop every gradient behind them
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def complete():
    return random_batch(SPEC, (6, 4, 5), unlabelled=0.2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def observed(complete):
    there = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(1)) < 0.6
    there[..., 0] |= ~there.any(-1)
    return complete.drop(there)


def learning(model, terms):
    """The parts that get a gradient which is not zero."""
    model.zero_grad()
    sum(terms.values()).backward()
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


# Sizes, in the published code and the paper.


@pytest.mark.parametrize(
    ("widths", "layers", "extractors", "total"),
    [((768, 5, 20), 4, 76_128, 13.00), ((768, 74, 35), 6, 84_192, 13.46)],
)
def test_sizes_are_the_published_ones(widths, layers, extractors, total):
    spec = DataSpec(dict(zip(("language", "acoustic", "vision"), widths, strict=True)), "score", ("mood",), "single")
    model = imder.System(imder.Config(layers=layers), spec)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sizes["extractors"] == extractors
    assert sizes["refinement"] == 3 * 522_224
    assert sizes["fusion"] == {4: 905_472, 6: 1_357_824}[layers]
    assert sizes["head"] == 74_305
    networks = [part.denoiser for part in model.recovery.parts.values()]
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [3_457_536] * 3
    # What is left is the condition's convolution: ours one for any subset, theirs one for each pair.
    assert sum(sizes.values()) / 1e6 == pytest.approx(total, abs=0.015)


def test_defaults_are_the_papers():
    config = imder.Config()
    assert (config.hidden, config.kernel, config.heads, config.layers, config.sigma) == (32, 3, 8, 4, 25.0)
    assert (config.refinement_width, config.refinement_blocks, config.weight) == (64, 20, 0.1)
    assert (imder.TRAINING.batch_size, imder.TRAINING.learning_rate, imder.TRAINING.optimizer) == (32, 1e-3, "adam")


# Who learns from what, and when.


def test_each_stage_teaches_its_own_part(complete, observed):
    model = system()
    assert learning(model, model.loss(complete, complete, COMPLETE)) == {"extractors", "fusion", "head", "speaker"}
    assert learning(model, model.loss(complete, complete, RECOVERY)) == {"recovery"}
    assert learning(model, model.loss(observed, complete, MISSING)) == {"refinement", "fusion", "head", "speaker"}


def test_joint_training_has_the_score_beside_the_rest_and_no_stage_of_its_own(complete, observed):
    model = system(joint=True, weight=0.3)
    assert [stage.name for stage in model.stages] == ["complete", "missing"]
    terms = model.loss(observed, complete, MISSING)
    assert set(terms) == {"task", "reconstruction", "score"}
    assert learning(model, terms) == {"refinement", "fusion", "head", "speaker", "recovery"}
    once, twice = (under_one_seed(observed, complete, weight) for weight in (0.1, 0.2))
    torch.testing.assert_close(twice["task"], once["task"])
    for name in ("reconstruction", "score"):
        torch.testing.assert_close(twice[name], 2 * once[name])


def under_one_seed(observed, complete, weight):
    model = system(joint=True, weight=weight)
    torch.manual_seed(3)
    return model.loss(observed, complete, MISSING)


def test_reconstruction_is_of_what_was_hidden_and_known(complete, observed):
    model = system()
    torch.manual_seed(3)
    terms = model.loss(observed, complete, MISSING)
    latents, truth = model.extract(observed), model.extract(complete)
    torch.manual_seed(3)
    filled = model.recover(latents, evaluations=2)
    hidden = {n: complete.masks[n] & ~observed.masks[n] for n in SPEC.names}
    error = sum(
        (filled[n][0][hidden[n]] - truth.values[n][hidden[n]]).square().mean() for n in SPEC.names if hidden[n].any()
    )
    torch.testing.assert_close(terms["reconstruction"], 0.1 * error)


def test_the_groups_hold_every_parameter_once():
    model = system()
    groups = [p for group in model.parameter_groups() for p in group["params"]]
    assert len({id(p) for p in groups}) == len(groups) == len(list(model.parameters()))


# What is wanted, and what is read.


def test_wanted_are_the_turns_that_lack_a_modality_and_of_a_sample_the_modalities_it_lacks(observed):
    latents = system().extract(observed)
    for name in SPEC.names:
        assert torch.equal(latents.wanted[name], observed.steps & ~observed.masks[name])
    spec = DataSpec({"a": 5, "b": 3}, "score", ("s",), "single")
    batch = random_batch(spec, (4, 2), generator=torch.Generator().manual_seed(0))
    batch = batch.drop(torch.tensor([[True, False], [True, True]]))
    latents = system(spec).extract(batch)
    assert latents.wanted["b"].tolist() == [[True] * 4, [False] * 4]  # as long as the one that is there
    assert not latents.wanted["a"].any()


@pytest.mark.parametrize("recovery", ["diffusion", "autoencoder", "mean", "zero", "none"])
def test_observed_steps_pass_unchanged_and_only_wanted_ones_are_put_back(observed, recovery):
    model = system(recovery=recovery)
    latents = model.extract(observed)
    filled = model.recover(latents, keys=observed.index)
    for name in SPEC.names:
        there = latents.observed[name]
        assert torch.equal(filled[name][0][there], latents.values[name][there])
        assert (filled[name][0][~(there | latents.wanted[name])] == 0).all()
    assert model(observed).isfinite().all()


def test_zero_filling_puts_back_zero_and_mean_filling_the_mean(complete, observed):
    zero = system(recovery="zero", refinement=False)
    latents = zero.extract(observed)
    for name, filled in zero.recover(latents).items():
        assert torch.equal(filled[0], latents.values[name])
    mean = system(recovery="mean", refinement=False)
    mean.train()
    mean.loss(observed, complete, MISSING)
    latents = mean.eval().extract(observed)
    for name, filled in mean.recover(latents).items():
        expected = latents.values[name][latents.observed[name]].mean(0)
        torch.testing.assert_close(filled[0][latents.wanted[name]], expected.expand(latents.wanted[name].sum(), -1))


def test_zero_is_looked_at_where_nothing_put_back_is_not(observed):
    """With nothing put back a modality that is nowhere there has no part in it; a zero does."""
    alone = observed.drop(torch.tensor([[True, False]] * 3))
    told, filled = system(recovery="none"), system(recovery="zero", refinement=False)
    filled.load_state_dict(told.state_dict())
    assert not torch.allclose(told(alone), filled(alone))
    torch.testing.assert_close(told(observed.drop(torch.tensor([[True, True]] * 3))), told(observed))


def test_unconditional_recovery_reads_nothing(observed):
    model = system(**imder.ABLATIONS["unconditional"])
    changed = replace(observed, inputs={n: 2 * x + 1 for n, x in observed.inputs.items()})
    one, two = (
        model.recovery.recover(b.values, b.observed, b.wanted, keys=observed.index)
        for b in (model.extract(observed), model.extract(changed))
    )
    for name in SPEC.names:
        asked = observed.steps & ~observed.masks[name]
        torch.testing.assert_close(one[name][asked], two[name][asked])


def test_ablations_take_their_part_away():
    built = {name: system(**change) for name, change in imder.ABLATIONS.items()}
    assert not isinstance(built["without score network"].recovery, DiffusionRecovery)
    assert built["without score network"].refinement
    assert isinstance(built["without refinement"].recovery, DiffusionRecovery)
    assert not built["without refinement"].refinement
    assert [s.name for s in built["without either"].stages] == ["complete", "missing"]
    assert all(part.fuse is None for part in built["unconditional"].recovery.parts.values())


def test_recoveries_of_one_seed_stand_between_the_same_parts():
    models = []
    for recovery in ("diffusion", "autoencoder", "none"):
        torch.manual_seed(0)
        models.append(imder.System(imder.Config(**SMALL, recovery=recovery), SPEC))
    for part in ("extractors", "fusion", "head", "speaker"):
        first, *others = (getattr(model, part).state_dict() for model in models)
        assert all(torch.equal(first[key], other[key]) for other in others for key in first)


# Several draws.


def test_draws_differ_where_something_is_missing_and_are_averaged_as_probabilities(complete, observed):
    model = system(draws=4)
    probabilities = model.predict_draws(observed, 4)
    assert probabilities.shape == (4, 3, 6, 3)
    assert probabilities.std(0)[observed.steps].amax() > 1e-4
    torch.testing.assert_close(model(observed).softmax(-1), probabilities.mean(0))
    assert model.predict_draws(complete, 4).std(0).amax() < 1e-6
    torch.testing.assert_close(model.predict_draws(observed, 2), probabilities[:2])


@pytest.mark.parametrize(("target", "classes"), [("multilabel", ("x", "y")), ("score", ("s",))])
def test_draws_of_other_targets(target, classes):
    spec = DataSpec({"a": 5, "b": 3}, target, classes, "window")
    batch = random_batch(spec, (4, 3), absent=0.5, generator=torch.Generator().manual_seed(0))
    model = system(spec, draws=3)
    mean = model.predict_draws(batch, 3).mean(0)
    found = model(batch).sigmoid() if target == "multilabel" else model(batch)
    torch.testing.assert_close(found, mean)


def test_the_noise_goes_by_the_row_of_the_dataset(observed):
    model = system()
    moved = replace(observed, index=observed.index + 7)
    assert torch.equal(model(observed), model(observed))
    assert not torch.allclose(model(observed), model(moved))


@pytest.mark.parametrize("sampler", imder.SAMPLERS)
@pytest.mark.parametrize("process", ["ve", "vp", "cosine"])
def test_every_sampler_and_process_recovers_finite_latents(observed, sampler, process):
    model = system(sampler=sampler, process=process, evaluations=20)
    filled = model.recover(model.extract(observed), keys=observed.index)
    assert all(x.isfinite().all() for x in filled.values())


# Training.


def dataset(rows=24, turns=4, absent=0.3):
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(rows * turns, d, generator=generator) for n, d in SPEC.modalities.items()}
    gone = torch.rand(rows * turns, generator=generator) < absent
    return MultimodalDataset(
        SPEC,
        values=values,
        observed={"a": ~gone, "b": torch.ones_like(gone)},
        spans=torch.stack([torch.arange(rows) * turns, torch.arange(1, rows + 1) * turns], 1),
        targets=(values["b"][:, 0] > 0).long() + (values["b"][:, 1] > 1).long(),
        ids=[f"d{i}" for i in range(rows)],
        speaker=torch.arange(rows * turns) % 2,
    )


def poisoned(data, where, poison):
    """Other values at some rows of each modality."""
    values = {n: torch.where(where[n][:, None], poison, x) for n, x in data.values.items()}
    return MultimodalDataset(
        data.spec,
        values=values,
        observed=data.observed,
        spans=data.spans["a"],
        targets=data.targets,
        ids=data.ids,
        speaker=data.speaker,
    )


def train(data, out, *, regime, kind="none", **arguments):
    torch.manual_seed(0)
    model = imder.System(imder.Config(**SMALL, epochs_complete=1, epochs_recovery=1, epochs_missing=2), SPEC)
    plan = protocol(kind, SPEC.names, **arguments)
    config = TrainConfig(batch_size=8, regime=regime, optimizer="adam")
    fit(model, data, dataset(absent=0.0), config, protocol=plan, out=out)
    return model


@pytest.mark.parametrize("regime", ["truly", "simulated"])
def test_training_never_reads_what_is_really_absent(tmp_path, regime):
    """NaN in its place gives the same weights, after all three stages."""
    data = dataset()
    absent = {n: ~mask for n, mask in data.observed.items()}
    plain = train(data, tmp_path / "plain", regime=regime).state_dict()
    found = train(poisoned(data, absent, torch.nan), tmp_path / "poisoned", regime=regime).state_dict()
    assert all(torch.equal(plain[key], found[key]) for key in plain)
    assert all(value.isfinite().all() for value in found.values() if value.is_floating_point())


def test_truly_missing_training_never_reads_what_the_protocol_deleted(tmp_path):
    """Nor what it deleted itself, for good; where the regime is the simulated one the same poison shows."""
    data, deletion = dataset(absent=0.0), {"kind": "deletion", "modality": "a", "rates": [0.5]}
    hidden = deleted_rows(data, **deletion)
    assert 0.3 < hidden["a"].double().mean() < 0.7
    other = poisoned(data, hidden, 100.0)
    plain = train(data, tmp_path / "plain", regime="truly", **deletion).state_dict()
    found = train(other, tmp_path / "poisoned", regime="truly", **deletion).state_dict()
    assert all(torch.equal(plain[key], found[key]) for key in plain)
    simulated = train(other, tmp_path / "simulated", regime="simulated", **deletion).state_dict()
    assert any(value.abs().max() > 2 * found[key].abs().max() for key, value in simulated.items() if "var" in key)


def deleted_rows(data, kind, **arguments):
    """What training with seed 0 deletes for good, by the rows of the dataset."""
    change = protocol(kind, SPEC.names, **arguments).train.bind(data, derive(0, "condition"))
    batch = change(data.collate([data[i] for i in range(len(data))]))
    return {n: data.observed[n] & ~batch.masks[n].flatten() for n in SPEC.names}


def test_it_learns_to_recover_and_evaluates_alike_in_any_batch(tmp_path):
    data = dataset(absent=0.0)
    model = train(data, tmp_path / "run", regime="simulated", kind="random", rates=[0.0, 0.5])
    conditions = protocol("random", SPEC.names, rates=[0.0, 0.5]).evaluation
    one, other = (evaluate_all(model, data, conditions, batch_size=size) for size in (5, 24))
    for name in one:
        torch.testing.assert_close(one[name].predictions, other[name].predictions, atol=1e-5, rtol=1e-4)


# Errors.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": 2}, "kernel: expected an odd number of steps, got 2"),
        ({"draws": 0}, "draws: expected at least 1, got 0"),
        ({"evaluations": 1}, "evaluations: expected at least 2, got 1"),
        ({"training_evaluations": 1}, "training_evaluations: expected at least 2, got 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        system(**changes)
