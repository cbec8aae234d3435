"""Gates, graphs and adjustments between steps, modalities and confounders; the guide says what each may claim."""

from mmaffect.causal.backdoor import BackdoorHead, backdoor_adjust, class_frequencies
from mmaffect.causal.counterfactual import choose_tau, counterfactual_difference
from mmaffect.causal.counterfactual_tokens import mask_tokens, telling_tokens, token_class_counts
from mmaffect.causal.dag_gate import DAGGate, GateOutput, gumbel_sigmoid
from mmaffect.causal.granger import GrangerLoss, granger_context, granger_info_nce
from mmaffect.causal.prototypes import PrototypeHead, class_prototypes, class_totals
from mmaffect.causal.structure import learn_dag
from mmaffect.ops import acyclicity

__all__ = [
    "BackdoorHead",
    "DAGGate",
    "GateOutput",
    "GrangerLoss",
    "PrototypeHead",
    "acyclicity",
    "backdoor_adjust",
    "choose_tau",
    "class_frequencies",
    "class_prototypes",
    "class_totals",
    "counterfactual_difference",
    "granger_context",
    "granger_info_nce",
    "gumbel_sigmoid",
    "learn_dag",
    "mask_tokens",
    "telling_tokens",
    "token_class_counts",
]
