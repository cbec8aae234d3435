"""Hidden state to prediction."""

from mmaffect.heads.prediction import PredictionHead
from mmaffect.heads.residual import ResidualHead

__all__ = ["PredictionHead", "ResidualHead"]
