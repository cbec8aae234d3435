"""What is minimised."""

from mmaffect.losses.class_mean import class_mean_hinge
from mmaffect.losses.distillation import cosine_distillation, score_map_distillation
from mmaffect.losses.focal import focal_cross_entropy
from mmaffect.losses.reconstruction import masked_reconstruction
from mmaffect.losses.task import task_loss

__all__ = [
    "class_mean_hinge",
    "cosine_distillation",
    "focal_cross_entropy",
    "masked_reconstruction",
    "score_map_distillation",
    "task_loss",
]
