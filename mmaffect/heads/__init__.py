"""Hidden state to prediction."""

from mmaffect.heads.prediction import PredictionHead

__all__ = ["PredictionHead"]
