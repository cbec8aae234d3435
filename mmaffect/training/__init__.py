"""The loop, stages, conditions, checkpoints, measuring; on one machine or many."""

from mmaffect.training.checkpoint import load_weights
from mmaffect.training.conditions import Complete, Condition, Deletion, Patterns, RandomRate
from mmaffect.training.config import Progress, Stage, TrainConfig
from mmaffect.training.corruptions import FrameMasking, GaussianNoise
from mmaffect.training.evaluate import Evaluation, evaluate, evaluate_all
from mmaffect.training.fit import FitResult, fit
from mmaffect.training.folds import Fold, leave_one_group_out, pool
from mmaffect.training.missing_features import FeatureRate, ModalityLoss, ModalityRates, TimeBlock, TimeRate
from mmaffect.training.predict import Prediction, predict
from mmaffect.training.prior import prior_prediction
from mmaffect.training.protocol import Protocol, protocol
from mmaffect.training.repeat import Spread, SummaryRow, render, repeat, summary

__all__ = [
    "Complete",
    "Condition",
    "Deletion",
    "Evaluation",
    "FeatureRate",
    "FitResult",
    "Fold",
    "FrameMasking",
    "GaussianNoise",
    "ModalityLoss",
    "ModalityRates",
    "Patterns",
    "Prediction",
    "Progress",
    "Protocol",
    "RandomRate",
    "Spread",
    "Stage",
    "SummaryRow",
    "TimeBlock",
    "TimeRate",
    "TrainConfig",
    "evaluate",
    "evaluate_all",
    "fit",
    "leave_one_group_out",
    "load_weights",
    "pool",
    "predict",
    "prior_prediction",
    "protocol",
    "render",
    "repeat",
    "summary",
]
