"""What is minimised."""

from mmaffect.losses.class_mean import class_mean_hinge
from mmaffect.losses.focal import focal_cross_entropy
from mmaffect.losses.reconstruction import masked_reconstruction
from mmaffect.losses.task import task_loss

__all__ = [
    "class_mean_hinge",
    "focal_cross_entropy",
    "masked_reconstruction",
    "task_loss",
]
