"""CIDer against its specification: sizes, who teaches whom, what is missing and who is told, the regimes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from examples.systems import cider
from mmaffect.causal import PrototypeHead
from mmaffect.data import DataSpec, MultimodalDataset
from mmaffect.testing import random_batch
from mmaffect.training import Progress, TrainConfig, evaluate_all, fit, protocol
from mmaffect.training.order import derive

SINGLE = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "single", class_shares=(0.6, 0.3, 0.1))
DIALOGUE = DataSpec({"a": 5, "b": 3}, "class", ("x", "y", "z"), "dialogue", 2, class_shares=(0.6, 0.3, 0.1))
SMALL = {"hidden": 8, "heads": 2, "layers": 1, "lengths": (6,)}
TRAIN = Progress("train", 0, 1, 0.0)
BASE = {"project", "aligners", "encoders", "transformer", "pools", "expand", "contract", "head"}


def system(spec=SINGLE, **changes):
    torch.manual_seed(0)
    return cider.System(cider.Config(**(SMALL | changes)), spec).eval()


def pair(spec=SINGLE, lengths=(6, 4, 5), kept=0.5):
    """A complete batch, and what is left of it when steps are missing."""
    complete = random_batch(spec, lengths, unlabelled=0.2, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    masks = {n: torch.rand(m.shape, generator=generator) < kept for n, m in complete.masks.items()}
    return complete, complete.drop(masks)


# Sizes, in the published code.

MOSI = {"language": 768, "acoustic": 5, "vision": 20}


@pytest.mark.parametrize(("classes", "head", "total"), [(3, 33_545, 244_086), (7, 41_265, 251_806)])
def test_sizes_are_the_published_ones(classes, head, total):
    spec = DataSpec(MOSI, "class", tuple(f"class {i}" for i in range(classes)), "single")
    model = cider.System(cider.Config(layers=2, lengths=(50, 375, 500)), spec)
    model.head = PrototypeHead(96, {n: torch.zeros(classes, d) for n, d in MOSI.items()}, prior=[1 / classes] * classes)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sizes["project"] == 25_376
    assert sizes["aligners"] == 8_448
    assert sizes["encoders"] == 19_008
    assert sizes["transformer"] == 2 * 32_480 + 64
    assert sizes["pools"] == 3_267
    assert sizes["expand"] + sizes["contract"] == 18_624
    assert sizes["stretch"] + sizes["decoders"] == 70_794
    assert sizes["head"] == head
    assert sum(sizes.values()) - head == 210_541
    assert sum(sizes.values()) == total


def test_defaults_are_the_shipped_example():
    config = cider.Config()
    assert (config.hidden, config.layers, config.heads) == (32, 3, 8)
    assert (config.attention_dropout, config.output_dropout, config.embedding_dropout) == (0.0, 0.3, 0.2)
    assert (config.alpha, config.gamma, config.dropout) == (0.5, 0.6, 0.1)
    training = cider.TRAINING
    assert (training.learning_rate, training.optimizer, training.patience) == (1e-3, "adam", 10)


# Who teaches whom.


def learning(model, terms):
    """Names of the parameters that get a gradient which is more than rounding."""
    model.zero_grad()
    sum(terms.values()).backward()
    return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-14}


def parts(names):
    return {name.split(".")[0] for name in names}


# By ablation: the parts that are gone, and the terms that are left.
TERMS = {"task/complete", "task/observed", "joint", "attention", "features"}
LEFT = {
    "w/o MSSD": ({"stretch", "decoders"}, {"task"}),
    "w/o distillation": ({"stretch", "decoders"}, {"task/complete", "task/observed"}),
    "w/o joint states": (set(), TERMS - {"joint"}),
    "w/o attention maps": (set(), TERMS - {"attention"}),
    "w/o features": ({"stretch", "decoders"}, TERMS - {"features"}),
    "w/o WSAM": ({"aligners", "stretch"}, TERMS),
    "w/o composite attention": (set(), TERMS),
    "w/o GRU": ({"encoders"}, TERMS),
    "holes unknown": (set(), TERMS),
}


@pytest.mark.parametrize("ablation", ["none", *cider.ABLATIONS])
def test_every_part_that_is_left_learns_and_from_the_terms_that_are_left(ablation):
    gone, left = LEFT.get(ablation, (set(), TERMS))
    complete, observed = (batch.to(torch.float64) for batch in pair())
    model = system(**cider.ABLATIONS.get(ablation, {})).double()
    terms = model.loss(observed, complete, TRAIN)
    assert set(terms) == left
    learned = learning(model, terms)
    assert parts(learned) == (BASE | {"stretch", "decoders"}) - gone
    # The bias of a pool's scores moves all of them alike.
    idle = {name for name, _ in model.named_parameters()} - learned
    assert idle == {f"pools.{name}.score.bias" for name in SINGLE.names}


def test_every_ablation_is_tested():
    assert set(LEFT) == set(cider.ABLATIONS)


@pytest.mark.parametrize(
    ("term", "trains"),
    [
        ("task/observed", BASE),
        ("task/complete", BASE),
        ("joint", BASE - {"head"}),
        ("attention", BASE - {"pools", "expand", "contract", "head"}),
        ("features", BASE - {"pools", "expand", "contract", "head"} | {"stretch", "decoders"}),
    ],
)
def test_each_term_teaches_what_lies_before_it(term, trains):
    complete, observed = (batch.to(torch.float64) for batch in pair())
    model = system(layers=2).double()
    assert parts(learning(model, {term: model.loss(observed, complete, TRAIN)[term]})) == trains


@pytest.mark.parametrize("spec", [SINGLE, DIALOGUE], ids=["single", "dialogue"])
def test_the_teacher_learns_from_the_task_alone(spec):
    """Gradients of the distillation towards the complete batch are zero: also where its values are learned before."""
    complete, observed = pair(spec)
    complete, observed = (
        replace(b, inputs={n: x.clone().requires_grad_() for n, x in b.inputs.items()}) for b in (complete, observed)
    )
    terms = system(spec).loss(observed, complete, TRAIN)
    for name, term in terms.items():
        taught, learned = (
            sum(g.abs().sum() for g in torch.autograd.grad(term, list(b.inputs.values()), retain_graph=True))
            for b in (complete, observed)
        )
        assert (taught > 0) == (name == "task/complete"), name
        assert (learned > 0) == (name != "task/complete"), name


@pytest.mark.parametrize("holes", ["masked", "unknown"])
@pytest.mark.parametrize("spec", [SINGLE, DIALOGUE], ids=["single", "dialogue"])
def test_twins_agree_where_nothing_is_missing(spec, holes):
    complete, _ = pair(spec)
    terms = system(spec, holes=holes).loss(complete, complete, TRAIN)
    assert torch.equal(terms["task/complete"], terms["task/observed"])
    for name in ("joint", "attention", "features"):
        assert terms[name].item() == pytest.approx(0, abs=1e-6), name


def test_the_terms_are_those_of_two_passes_apart():
    """Computed sample by sample from what each twin alone yields."""
    complete, observed = pair()
    model = system(alpha=0.3, beta=0.7, gamma=0.9)
    terms = model.loss(observed, complete, TRAIN)
    full, part = (model.encode(b, return_scores=True) for b in (complete, observed))
    taught, learned = model.join(full), model.join(part)
    torch.testing.assert_close(terms["joint"], 0.3 * (1 - F.cosine_similarity(taught, learned)).mean())
    rows = []
    for sample in range(3):
        sources, asks = (
            torch.cat([a[n][sample] & b[n][sample] for n in SINGLE.names])
            for a, b in ((full.sources, part.sources), (full.asks, part.asks))
        )
        assert 0 < sources.sum() < asks.sum()
        p, q = (x.scores[sample][:, asks][..., sources].softmax(-1) for x in (full, part))
        rows.append((p * (p / q).log()).sum(-1).flatten())
    torch.testing.assert_close(terms["attention"], 0.7 * torch.cat(rows).mean())
    rebuilt, error = model.reconstruct(observed), 0.0
    for name, guess in rebuilt.items():
        missing = complete.masks[name] & ~observed.masks[name]
        error += F.smooth_l1_loss(guess[missing], complete.inputs[name][missing])
    torch.testing.assert_close(terms["features"], 0.9 * error)
    weights = torch.tensor(SINGLE.class_weights)
    for name, states, batch in (("task/complete", taught, complete), ("task/observed", learned, observed)):
        labelled = batch.targets != -100
        rows = F.cross_entropy(model.head(states)[labelled], batch.targets[labelled], weights, reduction="none")
        torch.testing.assert_close(terms[name], rows.mean())


def test_a_sample_left_with_nothing_teaches_nothing():
    complete, observed = pair()
    targets = torch.tensor([0, 1, 2])
    complete, observed = replace(complete, targets=targets), replace(observed, targets=targets)
    gone = observed.drop(torch.tensor([[True, True], [False, False], [True, True]]))
    changed = replace(complete, inputs={n: torch.cat([x[:1], 9 - x[1:2], x[2:]]) for n, x in complete.inputs.items()})
    model = system()
    one, other = (model.loss(gone, batch, TRAIN) for batch in (complete, changed))
    for name in ("task/observed", "joint", "attention"):
        assert one[name].isfinite()
        torch.testing.assert_close(one[name], other[name])
    assert one["task/complete"] != other["task/complete"]
    rows = F.cross_entropy(model(gone), targets, torch.tensor(SINGLE.class_weights), reduction="none")
    torch.testing.assert_close(one["task/observed"], rows[[0, 2]].mean())


# What is missing, and who is told.


def test_a_hole_asks_and_only_where_it_is_unknown_is_it_asked():
    _, observed = pair(DIALOGUE)
    for holes in ("masked", "unknown"):
        encoded = system(DIALOGUE, holes=holes).encode(observed)
        for name in DIALOGUE.names:
            assert torch.equal(encoded.asks[name], observed.steps)
            assert torch.equal(encoded.sources[name], observed.masks[name] if holes == "masked" else observed.steps)
            assert (encoded.hidden[name][observed.steps].abs().sum(-1) > 0).all()
            assert (encoded.hidden[name][~observed.steps] == 0).all()


def test_a_hole_knows_its_modalitys_past():
    _, observed = pair(DIALOGUE)
    model, seen = system(DIALOGUE), {}
    for name, encoder in model.encoders.items():
        encoder.register_forward_hook(lambda _, given, out, name=name: seen.update({name: out}))
    model(observed)
    past = replace(observed, inputs={n: torch.cat([9 - x[:, :1], x[:, 1:]], 1) for n, x in observed.inputs.items()})
    before = dict(seen)
    model(past)
    for name, mask in observed.masks.items():
        holes = observed.steps & ~mask & mask[:, :1]
        assert holes.any()
        assert (before[name] != seen[name])[holes].any(-1).all()


def test_a_modality_that_is_absent_is_pooled_from_what_its_steps_asked():
    spec = replace(SINGLE, sequence="window")
    model = system(spec)
    torch.nn.init.zeros_(model.contract.weight)
    torch.nn.init.zeros_(model.contract.bias)  # now the joint state is the pooled modalities, side by side
    batch, _ = pair(spec)
    alone = batch.drop(torch.tensor([[True, False]] * 3))
    encoded, joint = model.encode(alone), model.represent(alone)
    for half, name in zip(joint.chunk(2, -1), spec.names, strict=True):
        torch.testing.assert_close(half, model.pools[name](encoded.hidden[name], alone.steps).pooled)
        assert (half.abs().amax(1) > 1e-3).all()


def test_who_speaks_counts_also_where_nothing_is_heard():
    complete, observed = pair(DIALOGUE)
    model = system(DIALOGUE)
    nothing = observed.steps & ~observed.observed("dialogue")
    assert nothing.any()
    other = replace(observed, speaker=1 - observed.speaker)
    assert (model(observed) != model(other))[nothing].any(-1).all()
    with pytest.raises(AssertionError):
        torch.testing.assert_close(model(complete), model(replace(complete, speaker=1 - complete.speaker)))


def test_where_each_modality_has_its_own_time_nothing_is_known_behind_the_last_step():
    batch = random_batch(SINGLE, (6, 6), generator=torch.Generator().manual_seed(0))
    masks = {
        "a": torch.tensor([[False, True, False, True, False, False], [True] * 6]),
        "b": torch.tensor([[False, True, True, False, False, False], [False] * 6]),
    }
    batch = batch.drop(masks)
    words = torch.tensor([[False, True, False, True, False, False], [True] * 6])
    span = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    told, untold = (system(holes=holes).encode(batch) for holes in ("masked", "unknown"))
    assert torch.equal(told.asks["b"], span)
    assert torch.equal(told.sources["a"], words)
    assert torch.equal(untold.sources["a"], span)
    # The second modality has a step wherever a word asked for it, and is absent from the second sample.
    assert torch.equal(told.sources["b"], words & torch.tensor([[True], [False]]))
    assert torch.equal(untold.sources["b"], span & torch.tensor([[True], [False]]))
    apart = system(align=False).encode(batch)
    assert torch.equal(apart.sources["b"], masks["b"])
    assert apart.asks["b"].tolist() == [[True] * 3 + [False] * 3, [False] * 6]


def test_without_the_anchor_one_unknown_word_gathers_the_others():
    complete, _ = pair()
    alone = complete.drop(torch.tensor([[False, True]] * 3))
    model = system()
    encoded = model.encode(alone)
    first = torch.arange(encoded.asks["a"].shape[1]) == 0
    assert all(torch.equal(mask, first.expand(3, -1)) for mask in encoded.asks.values())
    assert not encoded.sources["a"].any()
    assert torch.equal(encoded.sources["b"], first.expand(3, -1))
    other = replace(alone, inputs=alone.inputs | {"b": alone.inputs["b"].flip(0)}, masks=alone.masks)
    assert not torch.allclose(model(alone), model(other))
    assert not system().encode(alone.drop(torch.zeros(3, 2, dtype=torch.bool))).asks["a"].any()


def test_the_anchor_is_the_one_that_is_named():
    complete, _ = pair()
    encoded = system(anchor="b").encode(complete)
    assert all(torch.equal(mask, complete.masks["b"]) for mask in encoded.asks.values())
    assert set(system(anchor="b").aligners) == {"a"}


def test_positions_are_of_the_step_and_not_of_the_sample():
    """The published code takes one for the other: there a sample's prediction depends on its place in the batch."""
    _, observed = pair()
    model, order = system(), torch.tensor([2, 0, 1])
    moved = replace(
        observed,
        inputs={n: x[order] for n, x in observed.inputs.items()},
        masks={n: m[order] for n, m in observed.masks.items()},
    )
    torch.testing.assert_close(model(moved), model(observed)[order])
    mirrored = replace(observed, inputs={n: x.flip(1) for n, x in observed.inputs.items()}, masks=observed.masks)
    assert not torch.allclose(model(mirrored), model(observed), atol=1e-4)


def test_decoders_reach_as_far_as_their_lengths():
    complete, observed = pair(lengths=(6, 4, 5))
    rebuilt = system(lengths=(4, 3)).reconstruct(observed)
    assert {n: x.shape for n, x in rebuilt.items()} == {"a": (3, 6, 5), "b": (3, 3, 3)}
    longer = system(lengths=(9, 11)).reconstruct(observed)
    assert {n: x.shape for n, x in longer.items()} == {"a": (3, 6, 5), "b": (3, 6, 3)}
    terms = [system(lengths=(4, 3)).loss(observed, b, TRAIN)["features"] for b in (complete, beyond(complete))]
    torch.testing.assert_close(*terms)


def beyond(batch):
    """Other values where a decoder of three steps does not reach."""
    x = batch.inputs["b"]
    return replace(batch, inputs=batch.inputs | {"b": torch.cat([x[:, :3], 9 - x[:, 3:]], 1)})


def test_where_time_is_shared_each_step_is_rebuilt_by_itself():
    model = system(DIALOGUE)
    assert not model.stretch
    assert not model.aligners
    assert not model.pools
    _, observed = pair(DIALOGUE)
    assert {n: x.shape for n, x in model.reconstruct(observed).items()} == {"a": (3, 6, 5), "b": (3, 6, 3)}


# Training.


def dataset(rows=24, steps=4, absent=0.3):
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(rows * steps, d, generator=generator) for n, d in DIALOGUE.modalities.items()}
    gone = torch.rand(rows * steps, generator=generator) < absent
    return MultimodalDataset(
        DIALOGUE,
        values=values,
        observed={"a": ~gone, "b": torch.ones_like(gone)},
        spans=torch.stack([torch.arange(rows) * steps, torch.arange(1, rows + 1) * steps], 1),
        targets=(values["b"][:, 0] > 0).long() + (values["b"][:, 1] > 1).long(),
        ids=[f"d{i}" for i in range(rows)],
        speaker=torch.arange(rows * steps) % 2,
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
    model = cider.System(cider.Config(**SMALL, epochs=2), DIALOGUE)
    plan = protocol(kind, DIALOGUE.names, **arguments)
    fit(model, data, dataset(absent=0.0), TrainConfig(batch_size=8, regime=regime), protocol=plan, out=out)
    return model


@pytest.mark.parametrize("regime", ["truly", "simulated"])
def test_training_never_reads_what_is_really_absent(tmp_path, regime):
    """NaN in its place gives the same weights."""
    data = dataset()
    absent = {n: ~mask for n, mask in data.observed.items()}
    plain = train(data, tmp_path / "plain", regime=regime).state_dict()
    found = train(poisoned(data, absent, torch.nan), tmp_path / "poisoned", regime=regime).state_dict()
    assert all(torch.equal(plain[key], found[key]) for key in plain)
    assert all(value.isfinite().all() for value in found.values())


def test_truly_missing_training_never_reads_what_the_protocol_deleted(tmp_path):
    """Nor what it deleted itself, for good; where the regime is the simulated one the same poison shows."""
    data, deletion = dataset(absent=0.0), {"kind": "deletion", "modality": "a", "rates": [0.5]}
    change = protocol(names=DIALOGUE.names, **deletion).train.bind(data, derive(0, "condition"))
    batch = change(data.collate([data[i] for i in range(len(data))]))
    hidden = {n: data.observed[n] & ~batch.masks[n].flatten() for n in DIALOGUE.names}
    assert 0.3 < hidden["a"].double().mean() < 0.7
    other = poisoned(data, hidden, 100.0)
    plain = train(data, tmp_path / "plain", regime="truly", **deletion).state_dict()
    found = train(other, tmp_path / "poisoned", regime="truly", **deletion).state_dict()
    assert all(torch.equal(plain[key], found[key]) for key in plain)
    simulated = train(other, tmp_path / "simulated", regime="simulated", **deletion).state_dict()
    assert any(not torch.equal(simulated[key], found[key]) for key in found)


def test_truly_missing_twins_learn_from_what_the_system_hides_itself():
    complete, _ = pair(lengths=[6] * 16)
    model = system()
    torch.manual_seed(0)
    terms = model.loss(complete, None, TRAIN)
    assert set(terms) == TERMS
    assert all(terms[name] > 1e-6 for name in ("joint", "attention", "features"))
    assert terms["task/complete"] != terms["task/observed"]


def test_it_evaluates_alike_in_any_batch(tmp_path):
    data = dataset(absent=0.0)
    model = train(data, tmp_path / "run", regime="simulated", kind="feature", rates=[0.0, 0.5])
    conditions = protocol("feature", DIALOGUE.names, rates=[0.0, 0.5]).evaluation
    one, other = (evaluate_all(model, data, conditions, batch_size=size) for size in (5, 24))
    for name in one:
        torch.testing.assert_close(one[name].predictions, other[name].predictions, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchor": "c"}, "anchor: 'c' is unknown"),
        ({"lengths": ()}, r"lengths: expected one number, or one for each of \('a', 'b'\), got \(\)"),
        ({"lengths": (1, 2, 3)}, r"lengths: expected one number, or one for each of \('a', 'b'\), got \(1, 2, 3\)"),
        ({"lengths": (0,)}, "lengths: expected a value > 0, got 0"),
        ({"alpha": -0.1}, "alpha: expected a value >= 0, got -0.1"),
        ({"attention": "none"}, "attention: 'none' is unknown"),
        ({"holes": "zero"}, "holes: 'zero' is unknown"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        system(**changes)
