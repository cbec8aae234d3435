"""One modality in, one hidden sequence out."""

from mmaffect.encoders.causal_cue import CausalCueGate, CausalCues
from mmaffect.encoders.convolution import TemporalConvolution
from mmaffect.encoders.pretrained_text import PretrainedText
from mmaffect.encoders.recurrent import RecurrentEncoder
from mmaffect.encoders.stream import StreamInput
from mmaffect.encoders.token_embedding import TokenEmbedding

__all__ = [
    "CausalCueGate",
    "CausalCues",
    "PretrainedText",
    "RecurrentEncoder",
    "StreamInput",
    "TemporalConvolution",
    "TokenEmbedding",
]
