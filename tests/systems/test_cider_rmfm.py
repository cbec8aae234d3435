"""How the study on missing features reads its cells."""

import argparse
import json

import pytest
import torch

from benchmarks import cider_rmfm
from benchmarks.cider_rmfm import BASE, DATASETS, ENTRIES, WITHOUT, Cell, candidate, figures_of, verdict, write_tables
from examples.cell import build
from examples.sources import Source
from mmaffect.ops import InputError
from mmaffect.testing import random_dataset
from tests.examples.small import DIALOGUE, TOKENS


def cell(at_zero, at_one, filled=(0, 0, 7)):
    """A finished cell whose metrics fall linearly."""
    values = (at_zero, (at_zero + at_one) / 2, at_one)
    rates = ("0", "0.5", "1")
    test = {
        rate: {"metrics": dict.fromkeys(cider_rmfm.METRICS.values(), v), "counted": 7, "excluded": 0, "filled": n}
        for rate, v, n in zip(rates, values, filled, strict=True)
    }
    return {"test": test, "seconds": 60.0}


def test_areas_are_over_all_rates_and_differences_paired():
    found = {
        BASE: [cell(0.6, 0.2), cell(0.7, 0.2), cell(0.62, 0.2)],
        WITHOUT: [cell(0.6, 0.1), cell(0.66, 0.2), cell(0.6, 0.14)],
    }
    assert figures_of(cider_rmfm.curves(found[BASE])[0]) == pytest.approx(
        {f"{c} {k}": v for c in ("UA", "WA", "macro-F1") for k, v in (("at 0", 60.0), ("AUILC", 40.0))}
    )
    text = write_tables(found, argparse.Namespace(dataset="iemocap", validation=False, seeds=3))
    assert "7 labelled rows at every rate" in text
    assert "training split's labels say: 1: 7." in text
    assert "6 minutes of one core" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| {WITHOUT} | -"))
    assert row.split(" | ")[1::2] == ["-2.0", "-3.7"]
    assert "UA at 0: must not lose; it does not lose: +2.0 in the mean; by seed +0.0, +4.0, +2.0." in text
    assert "UA AUILC: must gain; it gains: +3.7 in the mean; by seed +5.0, +2.0, +4.0." in text
    assert "+5.0, +2.0, +4.0. By a paired t-test (p = 0.053) **not told from no difference**." in text
    swapped = {BASE: found[WITHOUT], WITHOUT: found[BASE]}
    figures = {label: [figures_of(seed) for seed in cider_rmfm.curves(cells)] for label, cells in swapped.items()}
    assert "it loses" in verdict(figures, "WA")
    assert "it does not gain" in verdict(figures, "WA")


def test_names_of_cells_differ():
    names = {Cell(label, seed).name for label in ENTRIES for seed in range(3)}
    assert len(names) == 3 * len(ENTRIES)
    assert all(c.isalnum() or c == "-" for name in names for c in name)


@pytest.mark.parametrize("change", [{}, {"validation": True}, {"epochs": 1}, {"dataset": "iemocap"}])
def test_a_file_of_another_split_or_training_enters_no_table(tmp_path, change):
    options = argparse.Namespace(dataset="mosi", validation=False, epochs=None, seeds=1, out=tmp_path)
    (tmp_path / "cells").mkdir()
    kept = cell(0.6, 0.2) | cider_rmfm.settings(BASE, options)
    (tmp_path / "cells" / f"{Cell(BASE, 0).name}.json").write_text(json.dumps(kept))
    now = argparse.Namespace(**(vars(options) | change))
    if change:
        with pytest.raises(InputError, match="expected a cell of"):
            cider_rmfm.read_cells(now)
    else:
        assert cider_rmfm.read_cells(now) == {BASE: [kept]}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("label", ENTRIES)
def test_every_system_of_the_study_can_be_built(dataset, label):
    spec = TOKENS if dataset == "mosi" else DIALOGUE
    data = random_dataset(spec, [3, 4, 5], generator=torch.Generator().manual_seed(0))
    assert build(candidate(dataset, label, 1), Source(data, data, data, "", None, ""), 0).spec == spec
