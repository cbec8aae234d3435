"""The loop, stages, conditions, checkpoints, measuring; on one machine or many."""

from mmaffect.training.conditions import Complete, Condition, FeatureRate, Patterns, RandomRate
from mmaffect.training.config import Progress, Stage, TrainConfig
from mmaffect.training.corruptions import FrameMasking, GaussianNoise
from mmaffect.training.evaluate import Evaluation, evaluate
from mmaffect.training.fit import FitResult, fit
from mmaffect.training.protocol import Protocol, protocol

__all__ = [
    "Complete",
    "Condition",
    "Evaluation",
    "FeatureRate",
    "FitResult",
    "FrameMasking",
    "GaussianNoise",
    "Patterns",
    "Progress",
    "Protocol",
    "RandomRate",
    "Stage",
    "TrainConfig",
    "evaluate",
    "fit",
    "protocol",
]
