from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data import MultimodalBatch
from mmaffect.testing.tree import flatten, rebuild


class Pair(NamedTuple):
    first: torch.Tensor
    second: object


def _batch():
    return MultimodalBatch(
        inputs={"text": torch.zeros(2, 1, 3)},
        masks={"text": torch.ones(2, 1, dtype=torch.bool)},
        targets=torch.tensor([0, 1]),
        steps=None,
        id=("a", "b"),
        index=torch.arange(2),
    )


def test_names_follow_mappings_named_tuples_sequences_and_batches():
    value = {"x": Pair(torch.zeros(1), [torch.zeros(2), None]), "n": 3, "batch": _batch()}
    assert list(flatten(value)) == [
        "x.first",
        "x.second.0",
        "batch.inputs.text",
        "batch.masks.text",
        "batch.targets",
        "batch.index",
    ]
    assert list(flatten(torch.zeros(1))) == ["output"]


leaf = st.one_of(st.none(), st.integers(), st.builds(torch.tensor, st.integers(0, 9)))
nested = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, st.builds(torch.tensor, st.integers(0, 9)), inner),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(nested)
def test_rebuild_inverts_flatten(value):
    changed = {name: tensor + 1 for name, tensor in flatten(value).items()}
    new = rebuild(value, changed)
    assert type(new) is type(value)
    assert {n: t.item() for n, t in flatten(new).items()} == {n: t.item() + 1 for n, t in flatten(value).items()}
    assert repr(rebuild(new, flatten(value))) == repr(value)


def test_a_batch_is_rebuilt_as_a_batch():
    batch = _batch()
    new = rebuild(batch, {n: t + 1 if t.is_floating_point() else t for n, t in flatten(batch).items()})
    assert isinstance(new, MultimodalBatch)
    assert new.id == ("a", "b")
    assert (new.inputs["text"] == 1).all()
