"""What enters: the batch, recipes for one's own data, splits, normalisation, synthetic worlds."""

from mmaffect.data.batch import MultimodalBatch
from mmaffect.data.collate import collate
from mmaffect.data.csd import read_csd
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.gcnet import read_gcnet
from mmaffect.data.ground_truth import BayesAccuracy, ConditionalMoments, GroundTruth
from mmaffect.data.load import Splits, load_dataset
from mmaffect.data.mmsa import read_mmsa
from mmaffect.data.mult import read_mult
from mmaffect.data.normalise import Normaliser
from mmaffect.data.recipe import Recipe, load_recipe
from mmaffect.data.report import Report
from mmaffect.data.safe_unpickle import safe_unpickle
from mmaffect.data.sample import Sample
from mmaffect.data.sentences import restore_tokenizer
from mmaffect.data.shift import word_label_mismatch, word_shift_split
from mmaffect.data.spec import DataSpec
from mmaffect.data.split import stratified_group_split
from mmaffect.data.structural_model import CausalGraph, StructuralModel
from mmaffect.data.subwords import SubwordTokenizer
from mmaffect.data.synthetic import SyntheticAffect, synthetic_affect
from mmaffect.data.tokenizer import Tokenizer, WordTokenizer
from mmaffect.data.transfer import Transfer, load_transfer
from mmaffect.data.unlabelled import load_unlabelled
from mmaffect.data.vocabulary import Vocabulary

__all__ = [
    "BayesAccuracy",
    "CausalGraph",
    "ConditionalMoments",
    "DataSpec",
    "GroundTruth",
    "MultimodalBatch",
    "MultimodalDataset",
    "Normaliser",
    "Recipe",
    "Report",
    "Sample",
    "Splits",
    "StructuralModel",
    "SubwordTokenizer",
    "SyntheticAffect",
    "Tokenizer",
    "Transfer",
    "Vocabulary",
    "WordTokenizer",
    "collate",
    "load_dataset",
    "load_recipe",
    "load_transfer",
    "load_unlabelled",
    "read_csd",
    "read_gcnet",
    "read_mmsa",
    "read_mult",
    "restore_tokenizer",
    "safe_unpickle",
    "stratified_group_split",
    "synthetic_affect",
    "word_label_mismatch",
    "word_shift_split",
]
