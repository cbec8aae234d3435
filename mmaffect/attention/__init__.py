"""How steps look at steps."""

from mmaffect.attention.causal_entmax import AttentionOutput, CausalEntmaxAttention
from mmaffect.attention.positions import sinusoidal_positions
from mmaffect.attention.transformer import TransformerEncoder
from mmaffect.attention.weights import attention_mask, attention_weights

__all__ = [
    "AttentionOutput",
    "CausalEntmaxAttention",
    "TransformerEncoder",
    "attention_mask",
    "attention_weights",
    "sinusoidal_positions",
]
