import pytest

from mmaffect.ops import InputError
from mmaffect.plots import Row
from mmaffect.plots.rows import by_condition, check_same
from mmaffect.training import Spread, SummaryRow


def test_reads_the_rows_of_a_summary_in_order():
    rows: list[Row] = [SummaryRow(c, {"mae": Spread(v, 0.1, 3)}) for c, v in (("b", 1.0), ("a", 2.0))]
    found = by_condition(rows, "mae", "rows")
    assert list(found) == ["b", "a"]
    assert found["a"].mean == 2.0


def test_refusals():
    row = SummaryRow("a", {"mae": Spread(1.0, 0.1, 3)})
    with pytest.raises(InputError, match=r"rows: expected at least one row, each of another condition, got \[\]"):
        by_condition([], "mae", "rows")
    with pytest.raises(InputError, match=r"each of another condition, got \['a', 'a'\]"):
        by_condition([row, row], "mae", "rows")
    with pytest.raises(InputError, match="metric: 'ma' is unknown; did you mean 'mae'"):
        by_condition([row], "ma", "rows")
    check_same("x", "classes", ["a", "b"], ["b", "a"])
    with pytest.raises(InputError, match=r"x: expected the classes \['a'\], got \['b'\]"):
        check_same("x", "classes", ["a"], ["b"])
