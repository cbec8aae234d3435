"""Which step, and which modality, drives which."""

from mmaffect.causal.granger import GrangerLoss, granger_context, granger_info_nce

__all__ = ["GrangerLoss", "granger_context", "granger_info_nce"]
