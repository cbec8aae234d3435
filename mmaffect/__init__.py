"""Layers for multimodal affect recognition.

Import from the rooms: ``from mmaffect.attention import CausalEntmaxAttention``.
"""

from mmaffect._version import __version__

__all__ = ["__version__"]
