"""MACI on the systems: what it takes from which split, what it changes, and that the contract holds under it."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from examples.cell import Candidate, assemble, run_cell
from examples.maci import MACI, MACIConfig
from examples.predict import restore
from examples.sources import Source
from examples.systems import linear, system_names
from examples.telling_words import TellingWords
from examples.text import ReadsText, TextConfig
from examples.wrap import innermost
from mmaffect.causal import class_prototypes, counterfactual_difference, mask_tokens, telling_tokens, token_class_counts
from mmaffect.data import DataSpec, MultimodalDataset
from mmaffect.metrics import emotion_metrics
from mmaffect.ops import InputError
from mmaffect.testing import check_all, check_system, random_batch, system_cases
from mmaffect.training import Progress, TrainConfig, evaluate, evaluate_all, fit, load_weights, protocol
from tests.examples.small import DIALOGUE, TOKENS, WORDS, config_of, dataset

NARROW = TextConfig(width=5)
BOTH = MACIConfig(use="both", top=3)
STEP = Progress("missing", 0, 1, 0.5)
FEATURE = protocol("feature", TOKENS.names, rates=[0.0, 0.5, 1.0])
WITH_HEADS = tuple(name for name in system_names() if name != "linear")


def wrapped(name="carn", config=BOTH, spec=TOKENS, seed=0):
    torch.manual_seed(seed)
    return assemble(name, config_of(name), spec, NARROW, config)


def prepared(name="carn", config=BOTH, spec=TOKENS, tau=0.7):
    """Wrapped, with prototypes and telling words, and a τ that nobody chose."""
    system = wrapped(name, config, spec).eval()
    with torch.no_grad():
        system.prepare(dataset(spec, 40))
        system.tau.fill_(tau)
    system.unsettled = False
    return system


def batch_of(spec=TOKENS, seed=0, **options):
    return random_batch(spec, (5, 3, 1, 4), generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("spec", [TOKENS, DIALOGUE], ids=["tokens", "dialogue"])
@pytest.mark.parametrize("name", WITH_HEADS)
def test_the_head_of_every_system_is_replaced_and_learns(name, spec):
    system = wrapped(name, spec=spec)
    with torch.no_grad():
        system.prepare(dataset(spec, 40))
    batch = batch_of(spec)
    for stage in system.stages:
        terms = system.train().loss(batch, batch, Progress(stage.name, 0, 1, 0.5))
        sum(terms.values()).backward()
    mixture = innermost(system).head.mixture
    assert system.head is innermost(system).head
    for parameter in (mixture.weight, mixture.bias, mixture.encoders[0].maps[0].weight):
        assert parameter.grad is not None
        assert parameter.grad.any()
    out = system.eval()(batch)
    assert out.shape == (*batch.targets.shape, 3)
    p = system.system(batch).exp().sum(-1)
    torch.testing.assert_close(p, torch.ones_like(p))


@pytest.mark.parametrize("name", ["carn", "cider", "imder"])
def test_the_loss_is_the_likelihood_of_the_mixture(name):
    """Cross-entropy of log-probabilities is their likelihood."""
    system, batch = prepared(name, MACIConfig(use="backdoor")), batch_of()
    stage = system.stages[-1].name
    terms = system.loss(batch, batch, Progress(stage, 0, 1, 0.5))
    weights = torch.tensor(TOKENS.class_weights)[batch.targets]
    rows = -system(batch).gather(1, batch.targets[:, None]).squeeze(1)
    term = terms["task/observed" if name == "cider" else "task"]
    torch.testing.assert_close(term, (weights * rows).mean())


@pytest.mark.parametrize(("classes", "expected"), [(3, 33_545), (7, 41_265)])
def test_on_cider_it_has_the_published_number_of_parameters(classes, expected):
    """MOSI, unaligned: joint state of 96, features of 768, 5 and 20."""
    from examples.systems import cider

    spec = DataSpec({"l": 768, "a": 5, "v": 20}, "class", tuple(f"c{i}" for i in range(classes)), "single")
    system = MACI(cider.System(cider.Config(), spec), MACIConfig(use="both"))
    assert sum(p.numel() for p in system.head.parameters()) == expected
    assert not any(True for n, _ in system.named_parameters() if not n.startswith("system."))


def test_prototypes_and_prior_are_those_of_the_training_split():
    data, system = dataset(TOKENS, 70), wrapped()
    with torch.no_grad():
        system.eval().prepare(data)
    given = system.system.change(data.batch())
    mixture = system.head.mixture
    for name, encoder in zip(TOKENS.names, mixture.encoders, strict=True):
        wanted = class_prototypes(given.inputs[name], given.targets, given.masks[name], 3)
        torch.testing.assert_close(encoder.means, wanted)
    torch.testing.assert_close(mixture.log_prior.exp(), torch.bincount(data.targets) / 70)


def test_prototypes_of_a_dialogue_are_means_over_turns():
    data, system = dataset(DIALOGUE, 70), wrapped("gru", MACIConfig(use="backdoor"), DIALOGUE)
    system.prepare(data)
    for number in range(3):
        own = data.values["b"][data.targets == number].mean(0)
        torch.testing.assert_close(system.head.mixture.encoders[1].means[number], own)
    torch.testing.assert_close(system.head.mixture.log_prior.exp(), torch.bincount(data.targets) / len(data.targets))


@pytest.mark.parametrize("by_share", [False, True])
def test_telling_words_are_those_of_the_training_split(by_share):
    data = dataset(TOKENS, 70)
    config = replace(BOTH, by_share=by_share, compared=("x", "z"), threshold=0.05)
    system = wrapped(config=config)
    system.prepare(data)
    batch = data.batch()
    counts = token_class_counts(
        batch.inputs["a"], batch.targets, batch.masks["a"], vocabulary=12, classes=3, special=WORDS.special
    )
    used = counts / counts.sum(0) if by_share else counts
    wanted = telling_tokens(used, classes=[0, 2], threshold=0.05, top=3).tolist()
    assert sorted(wanted + list(WORDS.special)) == system.texts[0].kept.nonzero().flatten().tolist()
    assert wanted


@pytest.mark.parametrize("words", ["mask", "missing"])
def test_all_other_words_are_taken(words):
    system = prepared(config=replace(BOTH, words=words))
    batch = batch_of()
    batch = batch.drop({"a": torch.rand(batch.masks["a"].shape) < 0.8})
    without, taken = system.counterfactual(batch)
    telling = system.texts[0].kept.nonzero().flatten()
    masked = mask_tokens(batch.inputs["a"], batch.masks["a"], telling, special=WORDS.special, mask_id=WORDS.mask)
    changed = masked != batch.inputs["a"]
    assert changed.any()
    assert torch.equal(taken, changed.any(1))
    if words == "mask":
        assert torch.equal(without.inputs["a"], masked)
        assert torch.equal(without.masks["a"], batch.masks["a"])
    else:
        assert torch.equal(without.inputs["a"], batch.inputs["a"].masked_fill(changed, 0))
        assert torch.equal(without.masks["a"], batch.masks["a"] & ~changed)
    assert torch.equal(without.inputs["b"], batch.inputs["b"])
    assert torch.equal(without.masks["b"], batch.masks["b"])


def test_scores_are_the_published_difference():
    system, batch = prepared(), batch_of()
    without, taken = system.counterfactual(batch)
    assert taken.any()
    p, q = system.system(batch).log_softmax(-1), system.system(without).log_softmax(-1)
    wanted = counterfactual_difference(p, q, 0.7).softmax(-1)
    torch.testing.assert_close(system(batch).softmax(-1)[taken], wanted[taken])


def test_where_nothing_is_taken_nothing_is_subtracted():
    """Else a τ above 1 would turn the order of the classes round."""
    system, batch = prepared(tau=2.0), batch_of()
    deaf = batch.drop({"a": torch.tensor([True, False, True, False])[:, None]})
    out, plain = system(deaf), system.system(deaf)
    assert torch.equal(out[1], plain[1])
    assert torch.equal(out[3], plain[3])
    assert not torch.equal(out[0], plain[0])


@pytest.mark.parametrize("name", ["carn", "imder"])
def test_tau_zero_changes_nothing(name):
    system, batch = prepared(name, tau=0.0), batch_of()
    assert torch.equal(system(batch), system.system(batch))


def test_training_subtracts_nothing():
    system, batch = prepared("gru"), batch_of()
    assert not torch.equal(system(batch), system.system(batch))
    torch.manual_seed(0)
    out = system.train()(batch)
    torch.manual_seed(0)
    assert torch.equal(out, system.system(batch))


@pytest.mark.parametrize("use", ["none", "backdoor", "counterfactual", "both"])
def test_each_half_stands_alone(use):
    system = wrapped(config=MACIConfig(use=use))
    mixed = any("mixture" in name for name, _ in system.named_modules())
    assert mixed == (use in ("backdoor", "both"))
    assert hasattr(system, "texts") == (use != "none")
    if use != "none":
        assert len(system.texts) == (use != "backdoor")


def test_the_prior_is_uniform_outside_of_training_where_asked():
    data = dataset(TOKENS, 40)
    heads = {}
    for prior in ("training", "uniform"):
        system = wrapped("gru", MACIConfig(use="backdoor", prior=prior))
        system.prepare(data)
        heads[prior] = system.head
    hidden = torch.randn(4, 6)
    for head in heads.values():
        head.dropout.p = 0.0
    mixture = heads["training"].mixture
    assert torch.equal(heads["training"].eval()(hidden), mixture(hidden))
    assert torch.equal(heads["uniform"].eval()(hidden), mixture(hidden, uniform=True))
    assert torch.equal(heads["uniform"].train()(hidden), mixture(hidden))
    assert not torch.equal(mixture(hidden), mixture(hidden, uniform=True))


def test_the_dropout_of_a_plain_head_is_kept():
    assert wrapped("carn").head.dropout.p == config_of("carn").dropout
    assert wrapped("imder").head.dropout.p == 0


def copy_with(data, **changes):
    """A dataset with other targets or values."""
    return MultimodalDataset(
        data.spec,
        values=changes.get("values", data.values),
        observed=data.observed,
        spans=data.spans,
        targets=changes.get("targets", data.targets),
        ids=data.ids,
    )


def test_nothing_of_validation_and_test_enters_what_is_prepared(tmp_path):
    """Other validation data, the same everything that was not trained; and evaluation moves nothing."""
    train, valid = dataset(TOKENS, 30), dataset(TOKENS, 12, seed=1)
    other = copy_with(valid, targets=(valid.targets + 1) % 3, values={**valid.values, "b": -valid.values["b"]})
    config = TrainConfig(epochs=3, batch_size=8)
    found = []
    for number, second in enumerate((valid, other)):
        system = wrapped("gru")
        fit(system, train, second, config, protocol=FEATURE, out=tmp_path / str(number))
        found.append({n: t.clone() for n, t in system.named_buffers() if n != "tau"})
        before = {n: t.clone() for n, t in system.state_dict().items()}
        evaluate(system, dataset(TOKENS, 9, seed=2))
        assert all(torch.equal(before[n], t) for n, t in system.state_dict().items())
    assert any("means" in name for name in found[0])
    assert any("kept" in name for name in found[0])
    assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_prototypes_stay_as_they_were_prepared(tmp_path):
    train = dataset(TOKENS, 30)
    system = wrapped("gru")
    with torch.no_grad():
        system.eval().prepare(train)
    before = [encoder.means.clone() for encoder in system.head.mixture.encoders]
    fitted = wrapped("gru")
    fit(fitted, train, dataset(TOKENS, 12, seed=1), TrainConfig(epochs=3), protocol=FEATURE, out=tmp_path / "run")
    for means, encoder in zip(before, fitted.head.mixture.encoders, strict=True):
        assert torch.equal(means, encoder.means)
    assert not torch.equal(fitted.system.encoders[0].table.weight, system.system.encoders[0].table.weight)


@pytest.mark.parametrize("name", ["carn", "cider", "gru"])
def test_tau_is_the_best_on_validation_over_all_rates_together(tmp_path, name):
    """By brute force: the whole system, at every τ of the grid."""
    train, valid = dataset(TOKENS, 30), dataset(TOKENS, 24, seed=1)
    system = wrapped(name)
    result = fit(system, train, valid, TrainConfig(epochs=3, batch_size=8), protocol=FEATURE, out=tmp_path / "run")
    chosen, scores = float(system.tau), {}
    for step in range(31):
        system.tau.fill_(step / 10)
        found = evaluate_all(system, valid, FEATURE.evaluation, prior=FEATURE.prior(train)).values()
        scores[step / 10] = sum(e.metrics["balanced_accuracy"] for e in found) / 3
    best = max(scores.values())
    assert chosen == pytest.approx(min(tau for tau, value in scores.items() if value > best - 1e-9))
    assert result.settled["tau"] == pytest.approx(chosen)
    assert result.settled["without"] == pytest.approx(scores[0.0])
    assert result.settled["with"] == pytest.approx(best)
    assert result.value == pytest.approx(scores[0.0])
    saved = load_file(tmp_path / "run" / "best.safetensors")
    assert float(saved["tau"]) == pytest.approx(chosen)
    again = wrapped(name, seed=5)
    load_weights(again, tmp_path / "run" / "best.safetensors")
    system.tau.fill_(chosen)
    batch = batch_of()
    assert torch.equal(again.eval()(batch), system.eval()(batch))


def test_tau_can_follow_another_metric():
    system = wrapped("gru", MACIConfig(use="both", monitor="log_loss"))
    train, valid = dataset(TOKENS, 30), dataset(TOKENS, 24, seed=1)
    with torch.no_grad():
        system.eval().prepare(train)
        found = system.settle(valid, FEATURE)
    assert found["monitor"] == "log_loss"
    assert found["with"] <= found["without"]
    evaluations = evaluate_all(system, valid, FEATURE.evaluation, prior=FEATURE.prior(train)).values()
    losses = [emotion_metrics(e.predictions[e.counted], e.targets[e.counted])["log_loss"] for e in evaluations]
    assert found["with"] == pytest.approx(sum(losses) / 3, abs=1e-5)


def of_tau(name, config=BOTH, tau=0.7):
    """Builds systems whose counterfactual counts, with telling words that need no data."""

    def build(spec):
        system = assemble(name, config_of(name), spec, NARROW, config)
        system.tau.fill_(tau)
        for text in system.texts:
            text.kept[5:8] = True
        for encoder in innermost(system).head.mixture.encoders:
            encoder.means.normal_()
        return system

    return build


@pytest.mark.parametrize(("name", "spec"), [("carn", TOKENS), ("carn", DIALOGUE)])
def test_the_contract_holds_under_it(name, spec):
    check_system(of_tau(name), spec, only=["padding", "batch_order", "absent_values"])


@pytest.mark.parametrize("name", ["cider", "imder"])
def test_the_contract_of_the_forward_holds_under_it(name):
    check_all(system_cases(of_tau(name), TOKENS)["forward"], ["padding", "batch_order", "absent_values"])


def test_it_compiles_and_exports():
    check_all(system_cases(of_tau("gru"), TOKENS)["forward"], ["export", "state_dict", "pickle"])
    check_all(system_cases(of_tau("transformer"), TOKENS)["forward"], ["compile"])


def test_words_under_the_mask_are_never_looked_up():
    words = TellingWords(WORDS, "missing")
    ids, mask = torch.tensor([[5, 10**9, 3]]), torch.tensor([[True, False, True]])
    assert words(ids, mask)[0].tolist() == [[0, 0, 3]]


def test_what_does_not_fit_is_refused():
    scores = DataSpec({"a": 5}, "score", ("s",), "single")
    labels = DataSpec({"a": 5}, "multilabel", ("s", "t"), "single")
    classes = DataSpec({"a": 5}, "class", ("s", "t"), "single")
    for spec in (scores, labels):
        with pytest.raises(InputError, match="MACI: expected a target of kind 'class', got"):
            wrapped("gru", spec=spec)
    with pytest.raises(InputError, match=r"MACI: expected a head from one joint state to 2 logits.*Linear has 4"):
        MACI(linear.System(linear.Config(), classes), MACIConfig(use="backdoor"))
    with pytest.raises(InputError, match="compared: 'u' is unknown"):
        wrapped("gru", MACIConfig(use="both", compared=("u",)), classes)
    with pytest.raises(InputError, match="monitor: 'mae' is unknown"):
        wrapped("gru", MACIConfig(use="both", monitor="mae"), classes)
    with pytest.raises(InputError, match="words: 'gone' is unknown"):
        TellingWords(WORDS, "gone")
    few = dataset(DIALOGUE, 3)
    few.targets[few.targets == 2] = -100
    with pytest.raises(InputError, match="train: expected some steps of 'a' in every class, got none in z"):
        wrapped("gru", MACIConfig(use="backdoor"), DIALOGUE).prepare(few)


@pytest.mark.parametrize("use", ["none", "both"])
def test_a_run_is_restored_as_it_was(tmp_path, use):
    """Encoder, head, telling words and τ, from what the run directory records."""
    maci = MACIConfig(use=use, compared=("x", "z"), top=2, words="mask", monitor="macro_f1")
    candidate = Candidate("gru", "gru", config_of("gru"), TrainConfig(epochs=2), TextConfig(width=7), maci)
    source = Source(
        dataset(TOKENS, 30), dataset(TOKENS, 24, seed=1), dataset(TOKENS, 9, seed=2), "", None, "[synthetic]"
    )
    found = run_cell(candidate, source, FEATURE, seed=0, out=tmp_path / "run")
    system, spec, description = restore(tmp_path / "run")
    assert (spec.tokens, dict(spec.modalities)) == (TOKENS.tokens, TOKENS.modalities)
    assert description["text"]["width"] == 7
    assert ("maci" in description) == (use == "both")
    if use == "both":
        assert system.maci == maci
    again = evaluate_all(system, source.test, FEATURE.evaluation, prior=FEATURE.prior(source.train))
    for name, evaluation in found.items():
        assert torch.equal(evaluation.predictions, again[name].predictions)


class Hooked(nn.Module):
    """A system with hooks of its own."""

    def __init__(self, spec):
        super().__init__()
        self.spec, self.calls = spec, []
        self.head = nn.Linear(1, spec.outputs)

    def prepare(self, train):
        self.calls.append(train)

    def settle(self, valid, made):
        self.calls += [valid, made]
        return {"own": 1}


def test_hooks_of_the_system_are_called_first():
    system = Hooked(DIALOGUE)
    maci = MACI(system, MACIConfig(use="counterfactual"))
    data = dataset(DIALOGUE, 10)
    maci.prepare(data)
    assert maci.settle(data, FEATURE) == {"own": 1}
    assert system.calls == [data, data, FEATURE]


def test_weights_of_a_seed_are_the_same_with_and_without():
    torch.manual_seed(3)
    plain = assemble("carn", config_of("carn"), TOKENS, NARROW, MACIConfig())
    torch.manual_seed(3)
    maci = assemble("carn", config_of("carn"), TOKENS, NARROW, BOTH)
    assert isinstance(plain, ReadsText)
    held = dict(maci.system.named_parameters())
    shared = [name for name, _ in plain.named_parameters() if name in held]
    assert all(torch.equal(p, held[name]) for name, p in plain.named_parameters() if name in held)
    assert {name for name, _ in plain.named_parameters()} - set(shared) == {
        "system.head.linear.weight",
        "system.head.linear.bias",
    }
    assert type(innermost(maci)) is type(innermost(plain))
