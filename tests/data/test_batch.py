import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data import MultimodalBatch
from mmaffect.ops import InputError

NAMES = ("text", "audio", "gaze")


def batch(masks, *, steps=None):
    """A batch of three modalities; masks (B, T, 3)."""
    masks = torch.as_tensor(masks, dtype=torch.bool)
    return MultimodalBatch(
        inputs={n: torch.where(masks[..., i, None], 1.0 + i, 0.0).expand(-1, -1, i + 1) for i, n in enumerate(NAMES)},
        masks={n: masks[..., i] for i, n in enumerate(NAMES)},
        targets=torch.zeros(masks.shape[:2] if steps is not None else masks.shape[:1]),
        steps=steps, id=tuple(map(str, range(len(masks)))), index=torch.arange(len(masks)),
    )  # fmt: skip


CUBE = st.integers(0, 2**31).map(lambda s: torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(s)) < 0.5)


@given(CUBE)
def test_what_is_present_and_observed_follows_from_the_masks(masks):
    one = batch(masks, steps=torch.ones(4, 3, dtype=torch.bool))
    assert one.names == NAMES
    assert one.size == 4
    assert one.present.tolist() == masks.any(1).tolist()
    assert one.observed("dialogue").tolist() == masks.any(2).tolist()
    assert one.observed("window").tolist() == one.observed("single").tolist() == masks.any(2).any(1).tolist()


@given(CUBE, CUBE)
def test_dropping_hides_and_never_brings_back(masks, available):
    one = batch(masks)
    by_step, by_sample = one.drop(available), one.drop(available[:, 0])
    by_name = one.drop({"gaze": available[..., 2]})
    for i, name in enumerate(NAMES):
        assert by_step.masks[name].tolist() == (masks & available)[..., i].tolist()
        assert by_sample.masks[name].tolist() == (masks & available[:, :1])[..., i].tolist()
        for changed in (by_step, by_sample, by_name):
            assert (changed.inputs[name][~changed.masks[name]] == 0).all()
            kept = changed.masks[name]
            assert (changed.inputs[name][kept] == one.inputs[name][kept]).all()
    assert by_name.masks["text"].tolist() == one.masks["text"].tolist()
    assert one.masks["text"].tolist() == masks[..., 0].tolist()  # the batch itself is as it was


@pytest.mark.parametrize(
    "available", [torch.ones(4, 2, dtype=torch.bool), torch.ones(4, 3), torch.ones(3, dtype=torch.bool)]
)
def test_what_cannot_be_dropped_by_is_said(available):
    with pytest.raises(ValueError, match=r"available: expected bool of shape \(B, M\) or \(B, T, M\) with M = 3, got "):
        batch(torch.ones(4, 3, 3)).drop(available)


def test_unknown_names_are_said():
    with pytest.raises(InputError, match="available: 'gase' is unknown; did you mean 'gaze'"):
        batch(torch.ones(4, 3, 3)).drop({"gase": torch.ones(4, 3, dtype=torch.bool)})


def test_only_floating_point_is_cast():
    one = batch(torch.ones(4, 3, 3)).to(torch.float64)
    assert one.inputs["text"].dtype == one.targets.dtype == torch.float64
    assert one.masks["text"].dtype == torch.bool
    assert one.index.dtype == torch.int64
    assert one.id == ("0", "1", "2", "3")
    assert one.steps is None


def test_a_batch_can_be_exported():
    class Mean(torch.nn.Module):
        def forward(self, one):
            return one.inputs["audio"].mean((1, 2)) * one.present[:, 1]

    one = batch(torch.ones(4, 3, 3))
    exported = torch.export.export(Mean(), (one,)).module()
    torch.testing.assert_close(exported(one), Mean()(one))


def test_pooled_is_each_modalitys_mean_as_one_shared_step():
    masks = torch.tensor([[[1, 0, 1], [1, 0, 0], [0, 0, 1]], [[0, 1, 0], [1, 1, 0], [1, 1, 0]]])
    one = batch(masks)
    ramp = torch.arange(3.0).view(1, 3, 1)
    values = {n: torch.where(one.masks[n][..., None], x * ramp, torch.nan) for n, x in one.inputs.items()}
    pooled = MultimodalBatch(values, one.masks, one.targets, None, one.id, one.index).pooled()
    assert pooled.steps.tolist() == [[True], [True]]
    assert pooled.inputs["text"].flatten().tolist() == [0.5, 1.5]
    assert pooled.inputs["audio"].shape == (2, 1, 2)
    assert pooled.inputs["audio"][:, 0, 0].tolist() == [0.0, 2.0]
    assert pooled.present.tolist() == one.present.tolist()
    shared = batch(masks, steps=torch.ones(2, 3, dtype=torch.bool))
    assert shared.pooled() is shared


def tokens(ids, mask):
    """A batch of token ids beside a vector."""
    ids, mask = torch.tensor(ids), torch.tensor(mask, dtype=torch.bool)
    return MultimodalBatch(
        inputs={"text": ids, "audio": torch.ones(len(ids), 1, 2)},
        masks={"text": mask, "audio": torch.ones(len(ids), 1, dtype=torch.bool)},
        targets=torch.zeros(len(ids)), steps=None, id=tuple(map(str, range(len(ids)))), index=torch.arange(len(ids)),
    )  # fmt: skip


def test_a_token_that_is_dropped_is_id_0_under_a_mask_that_is_false():
    one = tokens([[3, 7, 4], [3, 4, 0]], [[1, 1, 1], [1, 1, 0]])
    less = one.drop({"text": torch.tensor([[True, False, True], [False, False, True]])})
    assert less.inputs["text"].tolist() == [[3, 0, 4], [0, 0, 0]]
    assert less.inputs["text"].dtype == torch.int64
    assert less.masks["text"].tolist() == [[True, False, True], [False] * 3]
    assert less.present.tolist() == [[True, True], [False, True]]
    none = less.drop(torch.tensor([[True, True], [True, False]]))
    assert none.observed("single").tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_no_id_is_lost_when_a_batch_is_cast(dtype):
    one = tokens([[30521, 2049, 101]], [[1, 1, 1]])
    for cast in (one.to(dtype), one.to("cpu", dtype), one.to(torch.zeros(1, dtype=dtype)), one.to(dtype=dtype)):
        assert cast.inputs["text"].tolist() == [[30521, 2049, 101]]
        assert cast.inputs["audio"].dtype == dtype
    assert one.to("meta", dtype).inputs["text"].device.type == "meta"


def test_ids_have_no_mean():
    with pytest.raises(ValueError, match=r"inputs\['text'\]: token ids have no mean; expected vectors \(B, T, D\)"):
        tokens([[3, 4]], [[1, 1]]).pooled()
