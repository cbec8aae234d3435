"""What is reported: every figure of the field under a name that says which of its variants it is."""

from mmaffect.metrics.area import RateArea, area_under_rates
from mmaffect.metrics.bootstrap import BootstrapInterval, bootstrap_interval
from mmaffect.metrics.calibration import (
    ReliabilityCurve,
    brier_score,
    calibration_metrics,
    expected_calibration_error,
    reliability_curve,
)
from mmaffect.metrics.confusion import confusion_matrix, weighted_f1
from mmaffect.metrics.correlation import concordance, pearson
from mmaffect.metrics.coverage import CoverageCurve, interval_calibration_error, interval_coverage
from mmaffect.metrics.emotion import emotion_metrics
from mmaffect.metrics.multilabel import multilabel_metrics
from mmaffect.metrics.polarity import polarity_metrics
from mmaffect.metrics.ranking import auroc
from mmaffect.metrics.scores import score_metrics
from mmaffect.metrics.sentiment import sentiment_metrics
from mmaffect.metrics.significance import PairedResult, holm, paired_t_test, sign_flip_test, wilcoxon_test
from mmaffect.metrics.sims import sims_metrics
from mmaffect.metrics.structure import structural_hamming_distance

__all__ = [
    "BootstrapInterval",
    "CoverageCurve",
    "PairedResult",
    "RateArea",
    "ReliabilityCurve",
    "area_under_rates",
    "auroc",
    "bootstrap_interval",
    "brier_score",
    "calibration_metrics",
    "concordance",
    "confusion_matrix",
    "emotion_metrics",
    "expected_calibration_error",
    "holm",
    "interval_calibration_error",
    "interval_coverage",
    "multilabel_metrics",
    "paired_t_test",
    "pearson",
    "polarity_metrics",
    "reliability_curve",
    "score_metrics",
    "sentiment_metrics",
    "sign_flip_test",
    "sims_metrics",
    "structural_hamming_distance",
    "weighted_f1",
    "wilcoxon_test",
]
