"""The causal-cue gate against CARN's equations 6-8, and its two masks."""

import torch

from mmaffect.encoders import CausalCueGate


def test_equations_6_to_8():
    torch.manual_seed(0)
    gate = CausalCueGate(4)
    x = torch.randn(2, 5, 4)
    cues = gate(x)
    y, weights = gate.attention(x)
    gamma = torch.sigmoid(gate.gate(torch.cat([x, y], -1)))
    torch.testing.assert_close(cues.gated, gate.norm(x + gamma * y))
    torch.testing.assert_close(cues.weights, weights)


def test_parents_are_the_strict_past_of_the_same_scores():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4)
    strict = CausalCueGate(4)
    cues = strict(x)
    assert (cues.parents.diagonal(dim1=-2, dim2=-1) == 0).all()
    torch.testing.assert_close(cues.parents[:, :, 1:].sum(-1), torch.ones(2, 1, 4))
    assert (cues.weights[:, :, 0, 0] == 1).all()
    printed = CausalCueGate(4, self_parent=True)
    printed.load_state_dict(strict.state_dict())
    torch.testing.assert_close(printed(x).parents, cues.weights)
    outright = CausalCueGate(4, include_self=False)
    outright.load_state_dict(strict.state_dict())
    torch.testing.assert_close(outright(x).weights, cues.parents)


def test_an_absent_step_takes_its_cue_from_the_past():
    torch.manual_seed(0)
    gate = CausalCueGate(4)
    x, mask, steps = torch.randn(1, 3, 4), torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
    cues = gate(x, mask, queries=steps)
    assert cues.weights[0, 0, 2, 2] == 0
    torch.testing.assert_close(cues.weights[0, 0, 2].sum(), torch.tensor(1.0))
    assert (gate(x, mask).gated[0, 2] == 0).all()
