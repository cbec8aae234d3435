"""Synthetic worlds: data drawn from a structural causal model, handed over with the truth about it."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.ground_truth import GroundTruth
from mmaffect.data.spec import DataSpec, SequenceKind
from mmaffect.data.structural_model import StructuralModel, structural_model
from mmaffect.ops import check_choice, check_positive, lengths_to_mask

_MODALITIES: Mapping[str, int] = MappingProxyType({"text": 16, "audio": 8, "vision": 8})
_LENGTHS: Mapping[str, tuple[int, int]] = MappingProxyType({"dialogue": (6, 14), "window": (8, 8), "single": (1, 1)})


class SyntheticAffect(NamedTuple):
    """Three datasets drawn independently from one world, and what is true of it."""

    train: MultimodalDataset
    valid: MultimodalDataset
    test: MultimodalDataset
    spec: DataSpec
    truth: GroundTruth


class Steps(NamedTuple):
    """Steps of conversations: features ``(N, T, D)``, labels and speakers ``(N, T)``, confounders ``(N,)``."""

    features: Tensor
    labels: Tensor
    speaker: Tensor
    confounder: Tensor


def draw_steps(
    model: StructuralModel, samples: int, steps: int, *, inertia: float, speakers: int, generator: Generator
) -> Steps:
    r"""Draw conversations whose every step has the law of the model.

    Each speaker has an affect of their own, a stationary AR(1) on the conversation's clock,
    :math:`a_t = \rho\, a_{t-1} + \sqrt{1 - \rho^2}\, \eta_t` with :math:`a_0, \eta_t \sim N(0, I)`; a step shows the
    affect of who speaks. After each step the turn passes to the next speaker with probability one half. The
    confounder is drawn once a conversation, all noise anew at each step.

    Args:
        model: the law of a step.
        samples: number of conversations N.
        steps: their length T.
        inertia: ρ, the affect's correlation between neighbouring steps of the clock.
        speakers: how many there are; the first to speak is number 0.
        generator: of the draws.
    """
    prior, (features, affects) = model.prior, model.loadings.shape
    confounder = torch.multinomial(prior, samples, replacement=True, generator=generator)
    passed = torch.rand(samples, steps, generator=generator) < 0.5
    passed[:, 0] = False
    speaker = passed.cumsum(1) % speakers
    shocks = torch.randn(samples, steps, speakers, affects, dtype=torch.float64, generator=generator)
    path = [shocks[:, 0]]
    for t in range(1, steps):
        path.append(inertia * path[-1] + math.sqrt(1 - inertia**2) * shocks[:, t])
    affect = torch.stack(path, dim=1).gather(2, speaker[:, :, None, None].expand(-1, -1, 1, affects)).squeeze(2)
    noise = torch.randn(samples, steps, features, dtype=torch.float64, generator=generator)
    each = confounder[:, None].expand(-1, steps)
    x = model.features(affect, each, noise)
    logits = model.logits(x, each)
    # The largest of logits plus Gumbel noise is a draw from their softmax.
    gumbel = -torch.empty_like(logits).exponential_(generator=generator).log()
    return Steps(x, (logits + gumbel).argmax(-1), speaker, confounder)


def synthetic_affect(
    modalities: Mapping[str, int] = _MODALITIES,
    *,
    sequence: SequenceKind = "dialogue",
    sizes: tuple[int, int, int] = (600, 150, 300),
    lengths: int | tuple[int, int] | None = None,
    class_shares: Sequence[float] = (0.4, 0.3, 0.2, 0.1),
    affect: int = 8,
    loading: float = 1.0,
    noise: float | Mapping[str, float] = 1.0,
    sharpness: float = 4.0,
    inertia: float = 0.8,
    speakers: int = 2,
    edges: Mapping[tuple[str, str], float] = MappingProxyType({}),
    label_from: Sequence[str] | None = None,
    confounder_prior: Sequence[float] = (0.5, 0.3, 0.2),
    confounder_shift: float = 0.5,
    confounder_strength: float = 1.0,
    confounded: str | None = None,
    frame_noise: float = 1.0,
    seed: int = 0,
    generator: Generator | None = None,
) -> SyntheticAffect:
    r"""Draw a world and three datasets from it, complete: missingness is laid over by ``mmaffect.missing``.

    One step is a draw from :class:`~mmaffect.data.structural_model.StructuralModel`: a Gaussian affect moves linear
    modalities, edges join modalities, an observed confounder moves one modality and the label, and the label is
    drawn from a softmax of the modalities. By default P(y | do(x)) differs from P(y | x) through the confounder and
    through the affect (x ← a → x' → y). With ``label_from`` the moved modality alone, the confounder is the only
    back-door path from it; with ``confounder_strength=0`` as well there is none, and both laws agree.

    * ``"dialogue"``: see :func:`draw_steps`; every step has a label, ``confounder`` is constant within a dialogue.
      A step's label depends on its own modalities, so neighbours help by what they tell of those that are missing
      (through the affect) and of the confounder.
    * ``"window"``: the same, with the label of the last step alone.
    * ``"single"``: one step, without speakers. Each modality shows it as frames on a time axis of its own: the
      step's vector plus noise that is centred over the sample's frames. So the mean over frames is the vector, the
      frames tell nothing more, and the truth given the vector is the truth given the frames.

    Args:
        modalities: widths by name, in order; any names but ``affect``, ``confounder``, ``label``.
        sequence: kind of data.
        sizes: samples for training, validation and test.
        lengths: steps of a sample, or frames of each modality in ``"single"``: a number, or the least and the most,
            equally likely with all between. By default 6 to 14 in dialogues, 8 in windows, 1 in ``"single"``.
        class_shares: P(y) at every step, solved for exactly (up to quadrature); their number is that of classes.
        affect: dimensions of the affect.
        loading: standard deviation that the affect gives every feature.
        noise: standard deviation of the features' own noise; a number, or one by modality.
        sharpness: standard deviation of the logits over features, averaged over classes: how certain labels are.
            Modalities in ``label_from`` move the logits equally far.
        inertia: correlation of the affect between neighbouring steps.
        speakers: how many take turns, each with an affect of their own; with one, no speaker is given.
        edges: weight by (cause, effect): the standard deviation of the effect's features per one of the cause's.
        label_from: modalities that act on the label; all by default.
        confounder_prior: P(c); their number is that of values.
        confounder_shift: standard deviation of the moved features between values of the confounder.
        confounder_strength: standard deviation of the logits between values of the confounder; 0 = no effect.
        confounded: the modality that the confounder moves; the first by default.
        frame_noise: standard deviation of a frame about the step's vector in ``"single"``.
        seed: of everything drawn. The world does not depend on ``sizes``, nor one dataset on the size of another.
        generator: used instead of ``seed`` where given.

    Returns:
        ``train``, ``valid``, ``test`` (values in float32), ``spec`` and ``truth``.

    Raises:
        ValueError: (``InputError`` for names) naming the argument that is out of range.

    Example:
        >>> data = synthetic_affect({"face": 3, "voice": 2}, sizes=(8, 4, 4), edges={("face", "voice"): 0.5})
        >>> len(data.train), data.spec.names, data.spec.outputs
        (8, ('face', 'voice'), 4)
        >>> data.truth.interventional("voice", torch.zeros(1, 2)).shape
        torch.Size([1, 4])
    """
    check_choice("sequence", sequence, _LENGTHS)
    given = _LENGTHS[sequence] if lengths is None else lengths
    low, high = (given, given) if isinstance(given, int) else given
    if not 1 <= low <= high:
        raise ValueError(f"lengths: expected 1 <= least <= most, got {lengths}")
    if not 0 <= inertia < 1:
        raise ValueError(f"inertia: expected a value in [0, 1), got {inertia}")
    if not 0 <= frame_noise < math.inf:
        raise ValueError(f"frame_noise: expected a finite value of at least 0, got {frame_noise}")
    if len(sizes) != 3:
        raise ValueError(f"sizes: expected three numbers of samples, got {sizes}")
    check_positive(speakers=speakers, **{f"sizes[{i}]": size for i, size in enumerate(sizes)})
    spec = DataSpec(
        modalities=dict(modalities),
        target="class",
        classes=tuple(f"class_{i}" for i in range(len(class_shares))),
        sequence=sequence,
        speakers=speakers if sequence != "single" and speakers > 1 else 0,
        confounders=len(confounder_prior),
        class_shares=tuple(float(share) for share in class_shares),
    )
    # Streams of their own, so that the world and each dataset stay the same when another's size changes.
    root = generator if generator is not None else Generator().manual_seed(seed)
    streams = [Generator().manual_seed(s) for s in torch.randint(2**62, (4,), generator=root).tolist()]
    model = structural_model(
        modalities,
        class_shares=class_shares,
        affect=affect,
        loading=loading,
        noise=noise,
        sharpness=sharpness,
        edges=edges,
        label_from=label_from,
        confounder_prior=confounder_prior,
        confounder_shift=confounder_shift,
        confounder_strength=confounder_strength,
        confounded=confounded,
        generator=streams[0],
    )

    def dataset(name: str, size: int, stream: Generator) -> MultimodalDataset:
        ids = [f"{name}-{i}" for i in range(size)]
        if sequence == "single":
            steps = draw_steps(model, size, 1, inertia=inertia, speakers=1, generator=stream)
            return _as_frames(spec, model, steps, (low, high), frame_noise, ids, stream)
        steps = draw_steps(model, size, high, inertia=inertia, speakers=speakers, generator=stream)
        return _as_turns(spec, model, steps, torch.randint(low, high + 1, (size,), generator=stream), ids)

    names = ("train", "valid", "test")
    train, valid, test = (dataset(n, s, g) for n, s, g in zip(names, sizes, streams[1:], strict=True))
    return SyntheticAffect(train, valid, test, spec, GroundTruth(model))


def _spans(lengths: Tensor) -> Tensor:
    stops = lengths.cumsum(0)
    return torch.stack([stops - lengths, stops], dim=1)


def _as_turns(
    spec: DataSpec, model: StructuralModel, steps: Steps, lengths: Tensor, ids: Sequence[str]
) -> MultimodalDataset:
    """Dialogues and windows: the first steps of each conversation, on a time axis that modalities share."""
    size, longest = steps.labels.shape
    real = lengths_to_mask(lengths, longest)
    by_turn = spec.sequence == "dialogue"
    return MultimodalDataset(
        spec,
        values={n: steps.features[:, :, model.columns([n])][real].float() for n in spec.names},
        observed={n: torch.ones(int(lengths.sum()), dtype=torch.bool) for n in spec.names},
        spans=_spans(lengths),
        targets=steps.labels[real] if by_turn else steps.labels[torch.arange(size), lengths - 1],
        ids=ids,
        row_ids=[f"{name}-{t}" for name, length in zip(ids, lengths.tolist(), strict=True) for t in range(length)],
        speaker=steps.speaker[real] if spec.speakers else None,
        confounder=steps.confounder.repeat_interleave(lengths) if by_turn else steps.confounder,
    )


def _as_frames(
    spec: DataSpec,
    model: StructuralModel,
    steps: Steps,
    bounds: tuple[int, int],
    frame_noise: float,
    ids: Sequence[str],
    generator: Generator,
) -> MultimodalDataset:
    """Single steps as frames that average to the step's vector, each modality on a time axis of its own."""
    size = len(ids)
    values, spans = {}, {}
    for name in spec.names:
        lengths = torch.randint(bounds[0], bounds[1] + 1, (size,), generator=generator)
        vectors = steps.features[:, 0, model.columns([name])]
        owner = torch.arange(size).repeat_interleave(lengths)
        drawn = torch.randn(len(owner), vectors.shape[1], dtype=torch.float64, generator=generator)
        average = torch.zeros_like(vectors).index_add_(0, owner, drawn) / lengths[:, None]
        values[name] = (vectors[owner] + frame_noise * (drawn - average[owner])).float()
        spans[name] = _spans(lengths)
    return MultimodalDataset(
        spec,
        values=values,
        observed={n: torch.ones(len(v), dtype=torch.bool) for n, v in values.items()},
        spans=spans,
        targets=steps.labels[:, 0],
        ids=ids,
        confounder=steps.confounder,
    )
