"""Directed cross-modal fusion: who gathers from whom, and the published sizes."""

import pytest
import torch

from mmaffect.fusion import CrossModalFusion


def steps(names="abc", lengths=(3, 5, 4), dim=4):
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(2, t, dim, generator=generator) for n, t in zip(names, lengths, strict=False)}


@pytest.mark.parametrize(("layers", "count"), [(4, 905_472), (6, 1_357_824)])
def test_sizes_are_those_published_for_mosi_and_mosei(layers, count):
    fusion = CrossModalFusion(("language", "vision", "acoustic"), 32, layers=layers, heads=8)
    assert sum(p.numel() for p in fusion.parameters()) == count
    assert fusion.width == 192


def test_every_modality_gathers_from_every_other_in_order_and_then_from_itself():
    torch.manual_seed(0)
    fusion, hidden = CrossModalFusion(("a", "b", "c"), 4, layers=1, heads=2), steps()
    found = fusion({name: hidden[name] for name in "cab"})
    assert list(found) == ["a", "b", "c"]
    for m, sources in {"a": "bc", "b": "ac", "c": "ab"}.items():
        gathered = torch.cat([fusion.directed[m][n](hidden[m], hidden[n]) for n in sources], dim=-1)
        torch.testing.assert_close(found[m], fusion.memories[m](gathered))


def test_a_step_that_asks_without_being_there_gathers_and_is_not_gathered_from():
    torch.manual_seed(0)
    fusion, hidden = CrossModalFusion(("a", "b"), 4, layers=1, heads=2), steps("ab", (4, 4))
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    masks = {"a": everywhere & (torch.arange(4) != 2), "b": everywhere}
    silent = fusion(hidden, masks)
    asking = fusion(hidden, masks, queries={"a": everywhere, "b": everywhere})
    torch.testing.assert_close(asking["b"], silent["b"])
    assert (silent["a"][:, 2] == 0).all()
    assert (asking["a"][:, 2] != 0).any()
    other = {"a": hidden["a"].clone(), "b": hidden["b"]}
    other["a"][:, 2] = torch.nan
    torch.testing.assert_close(fusion(other, masks, queries={"a": everywhere, "b": everywhere})["a"], asking["a"])


def test_a_single_modality_looks_at_itself():
    torch.manual_seed(0)
    fusion, hidden = CrossModalFusion(("a",), 4, layers=1, heads=2), steps("a")
    torch.testing.assert_close(fusion(hidden)["a"], fusion.memories["a"](hidden["a"]))
    assert fusion.width == 4


def test_memories_have_at_least_three_layers_unless_told():
    depths = [len(CrossModalFusion(("a", "b"), 4, layers=n, heads=2).memories["a"].layers) for n in (1, 3, 4)]
    assert depths == [3, 3, 4]
    assert len(CrossModalFusion(("a", "b"), 4, layers=4, heads=2, memory_layers=2).memories["a"].layers) == 2


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="names: expected a list of modalities, at least one and each once"):
        CrossModalFusion((), 4, layers=1, heads=2)
    with pytest.raises(ValueError, match="layers: expected a value > 0, got 0"):
        CrossModalFusion(("a", "b"), 4, layers=0, heads=2)
    fusion = CrossModalFusion(("a", "b"), 4, layers=1, heads=2)
    with pytest.raises(ValueError, match="hidden: expected the modalities"):
        fusion({"a": torch.zeros(1, 2, 4)})
    with pytest.raises(ValueError, match=r"hidden\['b'\]: expected"):
        fusion({"a": torch.zeros(1, 2, 4), "b": torch.zeros(2, 2, 4)})
    with pytest.raises(ValueError, match="masks: expected the modalities"):
        fusion({"a": torch.zeros(1, 2, 4), "b": torch.zeros(1, 2, 4)}, {"a": torch.ones(1, 2).bool()})
