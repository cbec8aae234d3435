"""What the guide claims of the three heads holds in a small version of its study."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.backdoor import HEADS, Row, compare, distance, draw_world, table

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "backdoor"


@pytest.fixture(scope="module")
def confounded():
    return {row.head: row for row in compare(2.0, 2000, seed=1)}


def test_only_the_observed_confounder_brings_the_law_of_doing(confounded):
    plain, adjusted, prototypes = (confounded[head] for head in HEADS)
    assert adjusted.done < plain.done / 2
    assert adjusted.done < prototypes.done / 2
    assert adjusted.done < 0.1


def test_plain_and_prototypes_fit_the_law_of_seeing(confounded):
    plain, adjusted, prototypes = (confounded[head] for head in HEADS)
    for head in (plain, prototypes):
        assert head.seen < 0.1
        assert head.seen < head.done / 2
        assert head.seen < adjusted.seen / 2


def test_without_a_confounder_all_are_alike():
    exact, *heads = compare(0.0, 4000, seed=0)
    assert exact.done < 1e-6
    errors = [head.done for head in heads]
    assert max(errors) < 0.07
    assert max(errors) - min(errors) < 0.03


def test_the_committed_table_is_that_of_the_committed_numbers():
    rows = [Row(**row) for row in json.loads((RESULTS / "result.json").read_text(encoding="utf-8"))["rows"]]
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == table(rows)


def test_the_exact_law_has_no_distance_to_itself_and_the_uniform_one_has():
    world = draw_world(1.0, 50, seed=0)
    assert distance(world.done, world.done) == 0
    assert distance(torch.full_like(world.done, 0.25), world.done) > 0.1
