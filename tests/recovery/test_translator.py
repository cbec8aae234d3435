"""Cyclic translation: a second derivation in NumPy, and who may read what."""

import numpy as np
import pytest
import torch

from mmaffect.losses import masked_reconstruction
from mmaffect.recovery import CyclicTranslator

WIDTHS = {"words": 3, "face": 2, "voice": 4}


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def translator(widths=WIDTHS, hidden=3):
    torch.manual_seed(0)
    return CyclicTranslator(widths, hidden=hidden).double()


def batch(lengths=(4, 5, 3), size=2):
    values = {n: normal(size, t, w, seed=t) for (n, w), t in zip(WIDTHS.items(), lengths, strict=True)}
    return values, {n: torch.ones(v.shape[:2], dtype=torch.bool) for n, v in values.items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(state, x, w_ih, w_hh, b_ih, b_hh):
    """Cho et al. (2014) as PyTorch has it: reset, update, candidate."""
    r_x, z_x, n_x = np.split(w_ih @ x + b_ih, 3)
    r_h, z_h, n_h = np.split(w_hh @ state + b_hh, 3)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    return (1 - z) * np.tanh(n_x + r * n_h) + z * state


class ByNumpy:
    """The same for one sample without padding, from the equations."""

    def __init__(self, layer, hidden=3):
        self.p = {n: v.numpy() for n, v in layer.state_dict().items()}
        self.hidden = hidden

    def linear(self, name, x):
        return self.p[f"{name}.weight"] @ x + self.p.get(f"{name}.bias", 0)

    def encode(self, number, x):
        found = []
        for direction, order in (("forwards", x), ("backwards", x[::-1])):
            weights = [
                self.p[f"encoders.{number}.{direction}.0.{n}_l0"]
                for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            state, states = np.zeros(self.hidden), []
            for row in order:
                state = gru(state, row, *weights)
                states.append(state)
            found.append(states if direction == "forwards" else states[::-1])
        return np.concatenate(found, axis=1)

    def decode(self, hop, number, memory, steps, truth, forced):
        at = f"decoders.{hop}"
        state = np.tanh(self.linear(f"{at}.begin", memory.mean(0)))
        read, told = np.zeros(self.hidden), []
        for t in range(steps):
            scores = np.array(
                [
                    self.p[f"{at}.score.weight"][0]
                    @ np.tanh(self.p[f"{at}.key.weight"] @ m + self.linear(f"{at}.query", state))
                    for m in memory
                ]
            )
            weights = np.exp(scores) / np.exp(scores).sum()
            context = weights @ memory
            cell = [self.p[f"{at}.cell.{n}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            state = gru(state, np.concatenate([read, context]), *cell)
            told.append(self.linear(f"leave.{number}", np.concatenate([state, context])))
            read = self.linear(f"enter.{number}", truth[t] if forced[t] else told[-1])
        return np.array(told)


def test_against_numpy():
    layer, (values, masks) = translator(), batch()
    forced = {n: normal(*m.shape, seed=9) > 0 for n, m in masks.items()}
    joint, translated, source = layer(values, masks, forced=forced)
    check = ByNumpy(layer)
    for row in range(2):
        x = {n: v[row].numpy() for n, v in values.items()}
        told = {n: f[row].numpy() for n, f in forced.items()}
        first = check.encode(0, np.array([check.linear("enter.0", step) for step in x["words"]]))
        second = check.encode(1, first)
        face = check.decode(0, 1, first, 5, x["face"], told["face"])
        voice = check.decode(1, 2, second, 3, x["voice"], told["voice"])
        memory = check.encode(0, np.array([check.linear("enter.1", step) for step in face]))
        back = check.decode(0, 0, memory, 4, x["words"], told["words"])
        np.testing.assert_allclose(joint[row].detach(), second, atol=1e-12)
        np.testing.assert_allclose(translated["face"][row].detach(), face, atol=1e-12)
        np.testing.assert_allclose(translated["voice"][row].detach(), voice, atol=1e-12)
        np.testing.assert_allclose(source[row].detach(), back, atol=1e-12)


def dependence(layer, values, masks, forced, of, on):
    """Which steps of an output move with which steps of a value: ``(T_of, T_on)``."""
    leaf = {n: v.clone().requires_grad_(n == on) for n, v in values.items()}
    _, translated, source = layer(leaf, masks, forced=forced)
    output = source if of == "words" else translated[of]
    table = []
    for t in range(output.shape[1]):
        (gradient,) = torch.autograd.grad(output[:, t].sum(), leaf[on], retain_graph=True, allow_unused=True)
        seen = torch.zeros(leaf[on].shape[1], dtype=torch.bool) if gradient is None else gradient.ne(0).any(2).any(0)
        table.append(seen)
    return torch.stack(table)


@pytest.mark.parametrize("name", ["face", "voice"])
def test_a_step_is_told_without_reading_its_own_truth(name):
    layer, (values, masks) = translator(), batch()
    everything = {n: torch.ones_like(m) for n, m in masks.items()}
    seen = dependence(layer, values, masks, everything, name, name)
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


def test_nothing_is_told_that_is_not_forced():
    layer, (values, masks) = translator(), batch()
    only = {n: torch.zeros_like(m) for n, m in masks.items()}
    assert not dependence(layer, values, masks, None, "face", "face").any()
    only["face"][:, 1] = True
    seen = dependence(layer, values, masks, only, "face", "face")
    assert seen[2:, 1].all()
    assert seen.sum() == 3  # steps 2, 3 and 4 after step 1, and no other
    assert not dependence(layer, values, masks, only, "voice", "face").any()  # nor does a further hop


def test_the_way_back_starts_from_the_translation_and_not_from_the_truth():
    """The truth of the target has no part in the way back but through what was forced on the way there."""
    layer, (values, masks) = translator(), batch()
    assert not dependence(layer, values, masks, None, "words", "face").any()
    assert not dependence(layer, values, masks, {"words": torch.ones_like(masks["words"])}, "words", "face").any()


def test_the_joint_representation_needs_the_source_alone():
    layer, (values, masks) = translator(), batch()
    joint = layer(values, masks, forced=masks).joint
    torch.testing.assert_close(layer.represent(values["words"], masks["words"]), joint)
    assert joint.shape == (2, 4, 6)


def test_without_a_source_nothing_is_told():
    layer, (values, masks) = translator(), batch()
    masks["words"] = torch.tensor([[True] * 4, [False] * 4])
    joint, translated, source = layer({"words": values["words"]}, masks)
    for output in (joint, *translated.values(), source):
        assert output[0].any()
        assert not output[1].any()


def test_no_steps():
    layer, (values, masks) = translator(), batch()
    masks["voice"] = torch.zeros(2, 0, dtype=torch.bool)
    assert layer(values, masks).translated["voice"].shape == (2, 0, 4)


def test_learns_to_translate():
    torch.manual_seed(0)
    layer = CyclicTranslator({"x": 2, "y": 1}, hidden=8)
    x = torch.randn(32, 2, 2, generator=torch.Generator().manual_seed(0))
    values = {"x": x, "y": x[..., :1] - x[..., 1:]}
    masks = {n: torch.ones(32, 2, dtype=torch.bool) for n in values}
    adam = torch.optim.Adam(layer.parameters(), lr=2e-2)
    for _ in range(60):
        _, translated, back = layer(values, masks)
        loss = masked_reconstruction(translated | {"x": back}, values, masks)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert (translated["y"] - values["y"]).square().mean() < 0.2 * values["y"].var()


def test_refuses():
    with pytest.raises(ValueError, match="a source and at least one target"):
        CyclicTranslator({"words": 3})
    with pytest.raises(ValueError, match="hidden"):
        CyclicTranslator(WIDTHS, hidden=0)
    layer, (values, masks) = translator(), batch()
    with pytest.raises(ValueError, match="masks: expected the modalities"):
        layer(values, {"words": masks["words"]})
    with pytest.raises(ValueError, match="values: expected the source 'words' and what is forced"):
        layer({"words": values["words"]}, masks, forced={"face": masks["face"]})
    with pytest.raises(ValueError, match=r"forced\['face'\]"):
        layer(values, masks, forced={"face": masks["voice"]})
    with pytest.raises(ValueError, match="source: expected shape"):
        layer(values | {"words": values["face"]}, masks)
    with pytest.raises(ValueError, match=r"values\['face'\]: expected shape"):
        layer(values | {"face": values["words"]}, masks, forced={"face": masks["face"]})
