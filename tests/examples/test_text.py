"""Any system reads text: what it offers wrapped, what it is given, and that it keeps its contract."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from examples.systems import affect_diff, carn, system_names
from examples.text import ReadsText, TextConfig
from examples.wrap import Wrapper, innermost
from mmaffect.data import DataSpec
from mmaffect.ops import InputError, keep
from mmaffect.testing import check_all, check_system, random_batch, system_cases
from mmaffect.training import Progress, TrainConfig, fit, protocol
from mmaffect.training.step import parameter_groups
from tests.examples.small import TOKENS, class_of, config_of, dataset

NARROW = TextConfig(width=5)
STEP = Progress("missing", 0, 1, 0.5)
FEATURE = protocol("feature", TOKENS.names, rates=[0.0, 0.5])


def wrapped(name, spec=TOKENS, text=NARROW, seed=0):
    torch.manual_seed(seed)
    return ReadsText(class_of(name), config_of(name), spec, text)


def batch_of(seed=0, **options):
    return random_batch(TOKENS, (5, 3, 1, 4), generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize(
    ("name", "regime"), [(name, "simulated") for name in system_names()] + [("carn", "truly"), ("cider", "truly")]
)
def test_every_system_trains_on_tokens(tmp_path, name, regime):
    """And its encoder learns: also where nothing complete is known."""
    system = wrapped(name)
    before = system.encoders[0].table.weight.detach().clone()
    config = TrainConfig(epochs=3, batch_size=5, regime=regime)
    fit(system, dataset(TOKENS), dataset(TOKENS, 8, seed=1), config, protocol=FEATURE, out=tmp_path / "run")
    assert system(batch_of()).shape == (4, 3)
    assert not torch.equal(system.encoders[0].table.weight, before)


@pytest.mark.parametrize("name", ["carn", "gru"])
def test_the_contract_holds_on_tokens(name):
    check_system(
        lambda spec: ReadsText(class_of(name), config_of(name), spec, NARROW),
        TOKENS,
        only=["padding", "batch_order", "absent_values", "subsets"],
    )


def test_it_compiles_and_exports():
    cases = system_cases(
        lambda spec: ReadsText(class_of("transformer"), config_of("transformer"), spec, NARROW), TOKENS
    )
    check_all(cases["forward"], ["compile", "export"])


def test_the_system_gets_vectors_and_nothing_else_changes():
    system, batch = wrapped("carn"), batch_of()
    given = system.change(batch)
    table = system.encoders[0].table.weight
    torch.testing.assert_close(given.inputs["a"], keep(table[batch.inputs["a"]], batch.masks["a"]))
    assert torch.equal(given.inputs["b"], batch.inputs["b"])
    assert given.names == batch.names
    assert all(torch.equal(given.masks[n], batch.masks[n]) for n in TOKENS.names)
    assert dict(system.system.spec.modalities) == {"a": 5, "b": 3}
    assert not system.system.spec.tokens
    assert system.spec == TOKENS
    system.eval()
    assert torch.equal(system(batch), system.system(given))
    assert torch.equal(system.represent(batch), system.system.represent(given))


def test_both_batches_of_the_loss_are_read():
    system, seen = wrapped("carn"), []
    system.system.loss = lambda observed, complete, progress: seen.append((observed, complete, progress)) or {}
    batch = batch_of()
    observed = batch.drop({"a": torch.zeros_like(batch.masks["a"])})
    system.loss(observed, batch, STEP)
    system.loss(observed, None, STEP)
    assert not seen[0][0].inputs["a"].any()
    assert torch.equal(seen[0][1].inputs["a"], system.change(batch).inputs["a"])
    assert seen[1][1] is None
    assert seen[0][2] is STEP


@pytest.mark.parametrize("complete", [True, False])
def test_what_carn_rebuilds_does_not_learn_to_be_easily_rebuilt(complete):
    """No gradient reaches the encoder through the truth: only through what is read of the observed batch."""
    system = wrapped("carn").eval()
    batch = batch_of()
    hidden = batch.drop({"a": torch.zeros_like(batch.masks["a"])})
    terms = system.loss(hidden, batch, STEP) if complete else system.loss(batch, None, STEP)
    decoded = {name: x.detach() for name, x in system.reconstruct(batch).items()}
    if complete:
        assert terms["reconstruction"] > 0
        grad = torch.autograd.grad(terms["reconstruction"], system.encoders[0].table.weight, allow_unused=True)[0]
        assert grad is None or not grad.any()
        return
    system.system._decode = lambda fused, steps: decoded
    terms = system.loss(batch, None, STEP)
    assert not terms["reconstruction"].requires_grad


def test_whatever_a_system_offers_it_offers_wrapped():
    system, batch = wrapped("carn").eval(), batch_of()
    assert system.stages == system.system.stages
    assert system.head is system.system.head
    assert system.config is system.system.config
    weights = system.attention(batch)
    assert all(torch.equal(weights[n], w) for n, w in system.system.attention(system.change(batch)).items())
    assert system.reconstruct(batch)["a"].shape == (4, 1, 5)
    for absent in ("after_step", "after_validation", "report", "prepare", "settle", "represent_draws"):
        assert not hasattr(system, absent)
    other = wrapped("affect_diff")
    assert {"after_step", "after_validation", "report", "parameter_groups"} <= {n for n in dir(affect_diff.System)}
    other.after_step()
    assert other.report()["beta"] == other.config.beta
    assert wrapped("imder").represent_draws(batch, 3).shape[0] == 3


def test_innermost_is_the_system_within_all_wrappers():
    system = wrapped("gru")
    assert innermost(Wrapper(Wrapper(system))) is system.system
    assert innermost(system.system) is system.system
    with pytest.raises(AttributeError, match="nonsense"):
        system.nonsense  # noqa: B018 (the access is the test)


@pytest.mark.parametrize("name", ["affect_diff", "gru"])
def test_the_encoder_has_groups_of_its_own(name):
    text = replace(NARROW, learning_rate=0.3, weight_decay=0.7)
    system = wrapped(name, text=text)
    groups = parameter_groups(system, TrainConfig(learning_rate=0.01, weight_decay=0.2))
    by_name = {group["name"]: group for group in groups}
    assert list(by_name) == (["classifier", "text"] if name == "affect_diff" else ["system", "text"])
    assert (by_name["text"]["lr"], by_name["text"]["weight_decay"]) == (0.3, 0.7)
    assert (groups[0]["lr"], groups[0]["weight_decay"]) == (0.01, 0.2)
    owned = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in owned}) == len(owned) == sum(p.requires_grad for p in system.parameters())
    assert parameter_groups(wrapped(name), TrainConfig(learning_rate=0.01))[-1]["lr"] == 0.01


class Prepares(carn.CARN):
    def prepare(self, train):
        self.shown = train


def test_prepare_is_shown_vectors():
    torch.manual_seed(0)
    system, data = ReadsText(Prepares, config_of("carn"), TOKENS, NARROW), dataset(TOKENS, 70)
    system.prepare(data)
    shown = system.system.shown
    assert shown.spec == system.system.spec
    torch.testing.assert_close(shown.batch().inputs["a"], system.change(data.batch()).inputs["a"])
    assert torch.equal(shown.batch().targets, data.batch().targets)
    assert shown.ids == data.ids


def test_what_does_not_fit_is_refused():
    vectors = DataSpec({"a": 3}, "class", ("x", "y"), "single")
    with pytest.raises(InputError, match="spec: expected token ids among the modalities"):
        ReadsText(carn.System, carn.Config(), vectors, NARROW)
    with pytest.raises(InputError, match=r"--text\.folder: expected the folder"):
        wrapped("carn", text=TextConfig(encoder="pretrained"))

    class Settles(nn.Module):
        def __init__(self, config, spec):
            super().__init__()
            self.spec = spec

        def settle(self, valid, protocol):
            """Not called."""

    with pytest.raises(ValueError, match="expected a system without settle, got Settles"):
        ReadsText(Settles, None, TOKENS, NARROW)
