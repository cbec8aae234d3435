import math

import numpy as np
import pytest

from mmaffect.ops import InputError
from mmaffect.training import render, repeat, summary


def results(seeds=3):
    draw = np.random.default_rng(0)
    return [
        {c: {"accuracy": draw.random(), "mae": draw.random(), "per_class_f1/sad": 0.5} for c in ("complete", "audio")}
        for _ in range(seeds)
    ]


def test_summary_is_numpys_mean_and_sample_deviation():
    runs = results(5)
    rows = summary(runs)
    assert [row.condition for row in rows] == ["complete", "audio"]
    for row in rows:
        for name, spread in row.metrics.items():
            values = [run[row.condition][name] for run in runs]
            assert spread.mean == pytest.approx(np.mean(values))
            assert spread.sd == pytest.approx(np.std(values, ddof=1))
            assert spread.seeds == 5


def test_one_seed_has_no_spread_and_nan_stays():
    row = summary([{"a": {"x": 1.0, "y": math.nan}}])[0]
    assert row.metrics["x"].mean == 1.0
    assert math.isnan(row.metrics["x"].sd)
    assert math.isnan(row.metrics["y"].mean)
    assert render([row]) == "condition  x      y\na          1.000  nan"


def test_tables():
    rows = summary([{"complete": {"mae": 1.0, "corr": 0.5}}, {"complete": {"mae": 2.0, "corr": 0.5}}])
    assert render(rows, style="markdown", digits=2, metrics=["mae"]) == (
        "| condition | mae         |\n| --------- | ----------- |\n| complete  | 1.50 ± 0.71 |"
    )
    assert "per_class_f1/sad" not in render(summary(results()))
    assert "per_class_f1/sad" in render(summary(results()), metrics=["per_class_f1/sad"])


def test_repeat_calls_once_a_seed():
    seen = []

    def run(seed):
        seen.append(seed)
        return {"complete": {"mae": float(seed)}}

    assert repeat(run, range(3)) == [{"complete": {"mae": float(s)}} for s in range(3)]
    assert seen == [0, 1, 2]
    with pytest.raises(ValueError, match=r"seeds: expected at least one, all different, got \[1, 1\]"):
        repeat(run, [1, 1])


def test_what_cannot_be_summed_up_is_refused():
    with pytest.raises(InputError, match="results: expected at least one, got none"):
        summary([])
    with pytest.raises(InputError, match="results: expected the conditions and metrics of the first"):
        summary([{"a": {"x": 1.0}}, {"a": {"y": 1.0}}])
    with pytest.raises(InputError, match="rows: expected at least one, got none"):
        render([])
    with pytest.raises(InputError, match="metrics: 'acuracy' is unknown; did you mean 'accuracy'"):
        render(summary(results()), metrics=["acuracy"])
    with pytest.raises(InputError, match="style: 'latex' is unknown"):
        render(summary(results()), style="latex")
