"""The prototype head: the published parameter counts, the mixture by a loop, and what the prototypes can do."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmaffect.causal import PrototypeHead, class_prototypes


def means(classes, widths=(5, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"m{i}": torch.randn(classes, w, generator=generator) for i, w in enumerate(widths)}


@pytest.mark.parametrize(("classes", "expected"), [(3, 33_545), (7, 41_265)])
def test_parameter_counts_are_the_published_ones(classes, expected):
    head = PrototypeHead(96, means(classes, (768, 5, 20)), prior=[1 / classes] * classes)
    assert sum(p.numel() for p in head.parameters()) == expected


@pytest.mark.parametrize("uniform", [False, True])
def test_mixture_equals_a_loop_over_classifiers(uniform):
    torch.manual_seed(0)
    prototypes, prior = means(3), [0.5, 0.2, 0.3]
    head, h = PrototypeHead(4, prototypes, prior=prior, hidden=6), torch.randn(7, 4)
    expected = torch.zeros(7, 3)
    for i in range(3):
        encoded = [e.maps(x[i]) for e, x in zip(head.encoders, prototypes.values(), strict=True)]
        joint = torch.stack([torch.cat([row, *encoded]) for row in h])
        logits = joint @ head.weight[i].T + head.bias[i]
        expected += (1 / 3 if uniform else prior[i]) * logits.softmax(-1)
    torch.testing.assert_close(head(h, uniform=uniform).exp(), expected)


def test_encoders_are_three_maps_with_relu_between():
    encoder = PrototypeHead(4, means(2, (3,)), prior=[0.5, 0.5], hidden=2).encoders[0]
    x = encoder.means
    for i in (0, 2):
        x = (x @ encoder.maps[i].weight.T + encoder.maps[i].bias).clamp(min=0)
    torch.testing.assert_close(encoder(), x @ encoder.maps[4].weight.T + encoder.maps[4].bias)


def test_the_prototypes_only_add_one_constant_to_each_classifier():
    # As the docstring says: other prototypes can be made up for by other biases, for every hidden state at once.
    torch.manual_seed(0)
    head = PrototypeHead(4, means(3), prior=[0.5, 0.2, 0.3]).double()
    other = PrototypeHead(4, means(3, seed=1), prior=[0.5, 0.2, 0.3]).double()
    other.load_state_dict({n: v for n, v in head.state_dict().items() if "means" not in n}, strict=False)
    h = torch.randn(9, 4).double()
    assert (head(h) - other(h)).abs().max() > 1e-3

    def constant(of):
        encoded = torch.cat([encoder() for encoder in of.encoders], -1)
        return (encoded.unsqueeze(1) * of.weight[:, :, 4:]).sum(-1)

    with torch.no_grad():
        other.bias += constant(head) - constant(other)
    torch.testing.assert_close(head(h), other(h))


def test_a_learned_prior_starts_at_the_given_one_and_moves():
    torch.manual_seed(0)
    head = PrototypeHead(4, means(3), prior=[0.5, 0.2, 0.3], learn_prior=True)
    torch.testing.assert_close(head.log_prior.exp(), torch.tensor([0.5, 0.2, 0.3]))
    head(torch.randn(5, 4))[:, 0].sum().backward()
    assert (head.prior_shift.grad != 0).any()
    with torch.no_grad():
        head.prior_shift[1] = 1.0
    expected = torch.tensor([0.5, 0.2 * torch.e, 0.3])
    torch.testing.assert_close(head.log_prior.exp(), expected / expected.sum())
    fixed = PrototypeHead(4, means(3), prior=[0.5, 0.2, 0.3])
    assert not any("prior" in name for name, _ in fixed.named_parameters())


def test_prototypes_are_copied_and_saved():
    given = means(2)
    head = PrototypeHead(4, given, prior=[0.5, 0.5])
    before = head.encoders[0].means.clone()
    given["m0"] += 1
    torch.testing.assert_close(head.encoders[0].means, before)
    other = PrototypeHead(4, {n: torch.zeros_like(v) for n, v in given.items()}, prior=[0.5, 0.5])
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other.encoders[0].means, before)
    assert not any("means" in name for name, _ in head.named_parameters())


@pytest.mark.parametrize("by_step", [False, True])
def test_class_means_leave_out_padding_and_unlabelled(by_step):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 4, 3, generator=generator)
    mask = torch.rand(6, 4, generator=generator) < 0.7
    labels = torch.tensor([0, 1, 1, -100, 0, 2])
    if by_step:
        labels = labels.unsqueeze(1).repeat(1, 4)
        labels[0, 1], labels[5, 0] = 2, -100
    values[~mask] = torch.nan
    found = class_prototypes(values, labels, mask, 3)
    for c in range(3):
        rows = [
            values[n, t]
            for n in range(6)
            for t in range(4)
            if mask[n, t] and (labels[n, t] if by_step else labels[n]) == c
        ]
        torch.testing.assert_close(found[c], torch.stack(rows).mean(0))


class Largest(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor that any operation gives."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.size = max(self.size, out.numel() * out.element_size())
        return out


def test_class_means_of_a_large_split_need_no_copy_of_it():
    generator = torch.Generator().manual_seed(0)
    values, labels = torch.randn(1000, 3, 8, generator=generator), torch.arange(1000) % 3
    with Largest() as largest:
        found = class_prototypes(values, labels, torch.ones(1000, 3, dtype=torch.bool), 3)
    assert 0 < largest.size < values.numel() * values.element_size() / 4
    expected = torch.stack([values[labels == c].double().mean((0, 1)) for c in range(3)])
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("learn_prior", [False, True])
def test_half_precision_keeps_a_sum_of_one_and_adds_in_float32(learn_prior):
    torch.manual_seed(0)
    prior = [0.37, 0.41, 0.22]
    head = PrototypeHead(4, means(3), prior=prior, learn_prior=learn_prior).bfloat16()
    assert abs(head.given_log_prior.float().exp().sum().item() - 1) > 1e-4  # what rounding leaves of it
    with torch.no_grad():
        head.weight[:, :, 4:] = 0
    h = torch.randn(50, 4).bfloat16()
    expected = head(h)
    with torch.no_grad():
        head.bias += 256 - head.bias
        offset = head(h)
        head.bias.zero_()
        torch.testing.assert_close(offset, head(h), rtol=0, atol=0)  # in bfloat16, 256 + 0.3 is 256
        head.bias[:, 0] = 100
    assert expected.isfinite().all()
    torch.testing.assert_close(head(h)[:, 0].float(), torch.zeros(50), rtol=0, atol=1e-6)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="prototypes: expected at least one modality, got none"):
        PrototypeHead(4, {}, prior=[1.0])
    with pytest.raises(ValueError, match=r"prototypes\['m0'\]: expected shape \(C, D\) with C = 2, got \(3, 5\)"):
        PrototypeHead(4, means(3), prior=[0.5, 0.5])
    with pytest.raises(ValueError, match="hidden: expected a value > 0, got 0"):
        PrototypeHead(4, means(2), prior=[0.5, 0.5], hidden=0)
    with pytest.raises(ValueError, match=r"hidden: expected shape \(..., D\) with D = 4, got \(2, 3\)"):
        PrototypeHead(4, means(2), prior=[0.5, 0.5])(torch.zeros(2, 3))
    values, mask = torch.zeros(2, 1, 3), torch.ones(2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"expected a real step in every one of 3 classes, got none in \[2\]"):
        class_prototypes(values, torch.tensor([0, 1]), mask, 3)
    with pytest.raises(ValueError, match="labels: expected classes from 0 to 1, got 2"):
        class_prototypes(values, torch.tensor([0, 2]), mask, 2)
    with pytest.raises(ValueError, match=r"labels: expected shape \(N\) with N = 2, got \(3,\)"):
        class_prototypes(values, torch.tensor([0, 1, 1]), mask, 2)
    with pytest.raises(ValueError, match=r"labels: expected an int64 tensor, got torch\.float32"):
        class_prototypes(values, torch.tensor([0.0, 0.5]), mask, 2)


def test_modalities_may_have_any_name():
    prototypes = {"eda.wrist": torch.zeros(2, 3), "keys": torch.zeros(2, 4), "type": torch.zeros(2, 5)}
    assert PrototypeHead(4, prototypes, prior=[0.5, 0.5])(torch.zeros(3, 4)).shape == (3, 2)
