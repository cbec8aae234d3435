"""The field's figures. Each function returns a matplotlib ``Figure`` of its own; no global state is touched."""

from mmaffect.plots.attention import attention_matrices
from mmaffect.plots.bars import condition_bars, per_class_bars
from mmaffect.plots.confusion import confusion_matrix
from mmaffect.plots.coverage import coverage_diagram
from mmaffect.plots.epochs import epoch_curves
from mmaffect.plots.rates import RateCurve, rate_curve, rate_curves
from mmaffect.plots.reliability import reliability_diagram
from mmaffect.plots.rows import Estimate, Row
from mmaffect.plots.save import save
from mmaffect.plots.trade_off import trade_off
from mmaffect.plots.training_curves import training_curves

__all__ = [
    "Estimate",
    "RateCurve",
    "Row",
    "attention_matrices",
    "condition_bars",
    "confusion_matrix",
    "coverage_diagram",
    "epoch_curves",
    "per_class_bars",
    "rate_curve",
    "rate_curves",
    "reliability_diagram",
    "save",
    "trade_off",
    "training_curves",
]
