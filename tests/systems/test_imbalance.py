"""How the study on imbalance reads its cells."""

from benchmarks.imbalance import BASE, differences


def test_differences_are_paired_by_seed_and_not_by_place():
    """A system of which seed 0 is not done yet is compared on seeds 1 and 2."""

    def rows(*values):
        return [{"balanced accuracy": value, "macro-F1": value} for value in values]

    whole = {BASE: rows(10.0, 20.0, 40.0), "late": rows(21.0, 42.0), "none in common": rows(5.0)}
    lines = differences(whole, {BASE: [0, 1, 2], "late": [1, 2], "none in common": [3]}).splitlines()[2:]
    assert [line.split(" | ")[:2] for line in lines] == [["| late", "+1.5"]]
