import math
from itertools import pairwise

import pytest

from mmaffect.ops import InputError
from mmaffect.plots import condition_bars, per_class_bars
from mmaffect.training import summary

PATTERNS = ["audio", "text", "audio+text"]


def runs(shift: float) -> list[dict[str, dict[str, float]]]:
    return [{p: {"mae": shift + k + seed} for k, p in enumerate(PATTERNS)} for seed in range(3)]


@pytest.fixture
def results():
    return {"gru": summary(runs(0.0)), "linear": summary(runs(10.0))}


def drawn(axes):
    """Height and error of each bar, by system."""
    return [
        [
            (bar.get_height(), (line[1, 1] - line[0, 1]) / 2)
            for bar, line in zip(group, group.errorbar.lines[2][0].get_segments(), strict=True)
        ]
        for group in axes.containers
        if hasattr(group, "patches")
    ]


def test_bars_are_means_and_errors_one_deviation(results):
    figure = condition_bars(results, metric="mae")
    (axes,) = figure.axes
    gru, linear = drawn(axes)
    assert gru == [pytest.approx((1.0 + k, 1.0)) for k in range(3)]  # seeds 0, 1, 2: deviation 1
    assert linear == [pytest.approx((11.0 + k, 1.0)) for k in range(3)]
    assert axes.get_ylabel() == "mae"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["audio", "text", "audio+\ntext"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["gru", "linear"]


def test_conditions_chosen_and_ordered_whatever_the_order_of_the_rows(results):
    results["linear"] = results["linear"][::-1]
    (axes,) = condition_bars(results, metric="mae", conditions=["audio+text", "audio"]).axes
    assert [[round(h, 6) for h, _ in system] for system in drawn(axes)] == [[3.0, 1.0], [13.0, 11.0]]


def test_bars_of_a_group_stand_side_by_side_around_their_name(results):
    (axes,) = condition_bars(results, metric="mae").axes
    left, right = (group[0] for group in axes.containers if hasattr(group, "patches"))
    assert left.get_x() + left.get_width() == pytest.approx(right.get_x()) == 0.0


def test_a_single_seed_has_no_error_and_nan_is_no_zero():
    rows = summary([{"a": {"f1": math.nan}, "b": {"f1": 0.0}}])
    (axes,) = condition_bars({"gru": rows}, metric="f1").axes
    assert [(t.get_text(), t.get_position()) for t in axes.texts] == [(" n/a", (0.0, 0))]
    (group,) = [g for g in axes.containers if hasattr(g, "patches")]
    segments = group.errorbar.lines[2][0].get_segments()
    assert all(len(s) == 0 or math.isnan(s[:, 1].sum()) for s in segments)


@pytest.mark.parametrize("groups", [3, 40])
def test_names_neither_overlap_nor_leave_the_figure(groups):
    rows = summary([{f"condition{k}+with a+long name": {"f1": 0.5} for k in range(groups)}])
    figure = condition_bars({"gru": rows}, metric="f1")
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert boxes[-1].x1 <= figure.bbox.width
    assert min(box.y0 for box in boxes) >= 0


def test_per_class():
    found = [
        {c: {"f1/sad": v + s, "f1/happy": v, "f1": 9.0} for c, v in (("complete", 0.5), ("text", 0.2))}
        for s in (0.0, 0.2)
    ]
    figure = per_class_bars({"gru": summary(found)}, metric="f1", classes=["happy", "sad"])
    assert drawn(figure.axes[0]) == [[pytest.approx((0.5, 0.0)), pytest.approx((0.6, math.sqrt(0.02)))]]
    assert figure.axes[0].get_ylabel() == "f1"
    text = per_class_bars({"gru": summary(found)}, metric="f1", condition="text")
    assert [h for h, _ in drawn(text.axes[0])[0]] == pytest.approx([0.3, 0.2])


def test_refusals(results):
    with pytest.raises(InputError, match="results: expected at least one system, got none"):
        condition_bars({}, metric="mae")
    with pytest.raises(InputError, match=r"results\['gru'\]: expected at least one row"):
        condition_bars({"gru": []}, metric="mae")
    with pytest.raises(InputError, match="metric: 'f1' is unknown"):
        condition_bars(results, metric="f1")
    with pytest.raises(InputError, match="conditions: 'adio' is unknown; did you mean 'audio'"):
        condition_bars(results, metric="mae", conditions=["adio"])
    with pytest.raises(InputError, match=r"conditions: expected at least one, each once, got \[\]"):
        condition_bars(results, metric="mae", conditions=[])
    fewer = {**results, "linear": results["linear"][:1]}
    with pytest.raises(InputError, match=r"results\['linear'\]: expected the conditions .*, got \['audio'\]"):
        condition_bars(fewer, metric="mae")
    with pytest.raises(InputError, match="condition: 'complete' is unknown"):
        per_class_bars(results)
    with pytest.raises(InputError, match="metric: 'per_class_f1' is unknown"):
        per_class_bars(results, condition="audio")
