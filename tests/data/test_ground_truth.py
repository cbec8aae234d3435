"""Closed forms against a simulator that knows nothing of them: likelihood weighting of the structural equations."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.linear_model import LinearRegression, LogisticRegression

from mmaffect.data import GroundTruth, StructuralModel, synthetic_affect

WIDTHS = {"a": 2, "b": 1, "c": 2}
WEB = {("a", "b"): 0.8, ("b", "c"): -0.7, ("a", "c"): 0.5}
ORDER = ("a", "b", "c")  # causes before effects in WEB


def world(**changes: Any) -> GroundTruth:
    arguments: dict[str, Any] = {
        "sizes": (1, 1, 1),
        "class_shares": (0.5, 0.3, 0.2),
        "affect": 2,
        "edges": WEB,
        "sharpness": 3.0,
        "confounder_shift": 0.8,
        "confounder_strength": 1.5,
        "confounded": "b",
    }
    return synthetic_affect(WIDTHS, **(arguments | changes)).truth


def simulate(
    model: StructuralModel,
    do: dict[str, np.ndarray] | None = None,
    see: dict[str, np.ndarray] | None = None,
    size: int = 120_000,
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Walk the equations modality by modality; what is done is set, what is seen is set and weighed by its density."""
    rng = np.random.default_rng(seed)
    at = {name: model.columns([name]).numpy() for name in model.names}
    w, e, s = model.loadings.numpy(), model.coupling.numpy(), model.shifts.numpy()
    affect = rng.normal(size=(size, w.shape[1]))
    c = rng.choice(len(model.prior), size=size, p=model.prior.numpy())
    x: dict[str, np.ndarray] = {}
    log_weight = np.zeros(size)
    for name in ORDER:
        rows = at[name]
        centre = affect @ w[rows].T + s[c][:, rows]
        centre = centre + sum((x[other] @ e[np.ix_(rows, at[other])].T for other in x), np.zeros_like(centre))
        sd = model.noise.numpy()[rows]
        if do and name in do:
            x[name] = np.broadcast_to(do[name], centre.shape)
        elif see and name in see:
            x[name] = np.broadcast_to(see[name], centre.shape)
            log_weight += (-(((x[name] - centre) / sd) ** 2) / 2).sum(1)
        else:
            x[name] = centre + sd * rng.normal(size=centre.shape)
    logits = model.offsets.numpy()[c] + model.bias.numpy()
    logits = logits + sum(x[n] @ model.readout.numpy()[:, at[n]].T for n in ORDER)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    weight = np.exp(log_weight - log_weight.max())
    return x, c, labels, weight / weight.sum()


def shares(labels: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted class shares and their standard error."""
    hot = np.eye(3)[labels]
    mean = weight @ hot
    return mean, np.sqrt((weight[:, None] ** 2 * (hot - mean) ** 2).sum(0))


def values(name: str, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, WIDTHS[name]))


@pytest.mark.parametrize("name", ORDER)
@pytest.mark.parametrize("changes", [{}, {"label_from": ("c",)}, {"confounded": "a", "edges": {}}])
def test_doing_against_the_intervention_carried_out(name: str, changes: dict[str, Any]) -> None:
    truth, x = world(**changes), values(name)
    for row, p in zip(x, truth.interventional(name, torch.tensor(x)).numpy(), strict=True):
        _, _, labels, weight = simulate(truth.model, do={name: row})
        mean, error = shares(labels, weight)
        assert (abs(p - mean) < 5 * error + 1e-5).all()
        assert (error < 3e-3).all()


@pytest.mark.parametrize(
    "seen", [("a",), ("b",), ("c",), ("a", "c"), ("c", "b"), ("a", "b", "c")], ids=lambda names: "+".join(names)
)
@pytest.mark.parametrize("known", [False, True], ids=["c unknown", "c known"])
def test_seeing_against_likelihood_weighting(seen: tuple[str, ...], known: bool) -> None:
    truth = world()
    row = {name: 0.7 * values(name)[0] for name in seen}
    x, c, labels, weight = simulate(truth.model, see=row)
    likely = int(np.bincount(c, weight).argmax())
    if known:
        weight = weight * (c == likely)
        weight = weight / weight.sum()
    assert 1 / (weight**2).sum() > 600  # enough of the draws count
    observed = {name: torch.tensor(v)[None] for name, v in row.items()}
    confounder = torch.tensor([likely]) if known else None
    mean, error = shares(labels, weight)
    assert (abs(truth.posterior(observed, confounder)[0].numpy() - mean) < 5 * error + 1e-5).all()
    missing = tuple(n for n in ("c", "a", "b") if n not in seen)
    moments = truth.conditional_moments(observed, missing, confounder)
    assert np.allclose(moments.weights[0], np.bincount(c, weight, 3), atol=0.03)
    if missing:
        rest = np.concatenate([x[n] for n in missing], axis=1)
        apart = rest - weight @ rest
        assert (abs(moments.mean[0].numpy() - weight @ rest) < 5 * np.sqrt(weight**2 @ apart**2)).all()
        products = apart[:, :, None] * apart[:, None]
        covariance = np.einsum("n,nde->de", weight, products)
        error = np.sqrt(np.einsum("n,nde->de", weight**2, (products - covariance) ** 2))
        assert (abs(moments.covariance[0].numpy() - covariance) < 5 * error).all()


def test_observational_is_the_posterior_of_one() -> None:
    truth, x = world(), torch.tensor(values("a"))
    assert torch.equal(truth.observational("a", x), truth.posterior({"a": x}))


def test_moments_against_the_precision_matrix() -> None:
    truth = world()
    model, rng = truth.model, np.random.default_rng(0)
    seen, unseen = model.columns(["c", "a"]).numpy(), model.columns(["b"]).numpy()
    x = rng.normal(size=(7, 4))
    found = truth.conditional_moments({"c": torch.tensor(x[:, :2]), "a": torch.tensor(x[:, 2:])}, ("b",))
    means, precision = model.means.numpy(), np.linalg.inv(model.covariance.numpy())
    within = np.linalg.inv(precision[np.ix_(unseen, unseen)])
    centred = x[:, None] - means[None, :, seen]
    by_value = means[:, unseen] - centred @ precision[np.ix_(seen, unseen)] @ within
    density = [multivariate_normal(m[seen], model.covariance.numpy()[np.ix_(seen, seen)]).pdf(x) for m in means]
    weights = np.stack(density, axis=1) * model.prior.numpy()
    weights /= weights.sum(1, keepdims=True)
    assert np.allclose(found.within, within)
    assert np.allclose(found.means, by_value)
    assert np.allclose(found.weights, weights)
    mean = (weights[:, :, None] * by_value).sum(1)
    assert np.allclose(found.mean, mean)
    second = np.einsum("nk,nkd,nke->nde", weights, by_value, by_value) - np.einsum("nd,ne->nde", mean, mean)
    assert np.allclose(found.covariance, within + second)


def test_moments_against_regression_on_the_data() -> None:
    data = synthetic_affect(WIDTHS, sequence="single", sizes=(20_000, 1, 1), edges=WEB, confounded="b")
    flat = data.train
    assert flat.confounder is not None
    a, b, c = (flat.values[n].numpy() for n in ORDER)
    hot = np.eye(3)[flat.confounder.numpy()]
    fit = LinearRegression(fit_intercept=False).fit(np.c_[a, c, hot], b)
    seen = {"a": flat.values["a"][:100], "c": flat.values["c"][:100]}
    exact = data.truth.conditional_moments(seen, ["b"], flat.confounder[:100])
    assert np.allclose(fit.predict(np.c_[a, c, hot][:100]), exact.mean, atol=0.1)
    residual = b - fit.predict(np.c_[a, c, hot])
    assert float((residual**2).mean()) == pytest.approx(float(exact.within), rel=0.05)


def test_without_back_doors_doing_is_seeing() -> None:
    """The moved modality alone acts on the label: strength 0 closes the only back-door path, strength opens it."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    gaps = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        truth = world(confounded="a", label_from=("a",), confounder_strength=strength, edges={("a", "b"): 0.8})
        gaps.append(float((truth.interventional("a", x) - truth.observational("a", x)).abs().mean()))
    assert gaps[0] < 1e-6
    assert gaps[1] > 0.005
    assert gaps[2] > 0.01
    assert gaps[3] > 0.02
    assert gaps == sorted(gaps)


def test_the_confounder_adjusts_where_it_is_the_only_back_door() -> None:
    """Pearl's formula: P(y | do(x)) = sum over c of P(c) P(y | x, c); and it fails where the affect is another."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))

    def adjusted(truth: GroundTruth) -> torch.Tensor:
        prior = truth.model.prior
        return sum(
            (prior[c] * truth.posterior({"a": x}, torch.full((50,), c)) for c in range(3)), torch.zeros(50, 3).double()
        )

    alone = world(confounded="a", label_from=("a",), edges={})
    assert torch.allclose(adjusted(alone), alone.interventional("a", x), atol=1e-9)
    both = world(confounded="a", edges={})
    assert float((adjusted(both) - both.interventional("a", x)).abs().mean()) > 0.02


def test_the_affect_is_a_back_door_of_its_own() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    open_path = world(confounder_strength=0.0, confounder_shift=0.0, edges={})
    assert float((open_path.interventional("a", x) - open_path.observational("a", x)).abs().mean()) > 0.02
    closed = world(confounder_strength=0.0, confounder_shift=0.0, edges={}, loading=0.0)
    assert torch.allclose(closed.interventional("a", x), closed.observational("a", x), atol=1e-6)


def test_a_modality_that_acts_on_nothing_changes_nothing_when_set() -> None:
    truth, x = world(label_from=("a",), edges={}), torch.randn(5, 2)
    assert torch.allclose(truth.interventional("c", x), truth.class_shares.expand(5, -1), atol=1e-9)
    assert float((truth.observational("c", x) - truth.class_shares).abs().max()) > 0.01


def test_nothing_seen_gives_the_class_shares() -> None:
    truth = world()
    assert truth.class_shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-9)
    by_value = truth.posterior({}, torch.arange(3))
    assert (truth.model.prior @ by_value).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-9)
    everything = truth.conditional_moments({}, ORDER)
    assert torch.allclose(everything.within, truth.model.covariance)
    assert torch.allclose(everything.mean, torch.zeros(1, 5).double(), atol=1e-12)


def test_rows_do_not_meet() -> None:
    truth = world()
    x = {"a": torch.randn(9, 2), "c": torch.randn(9, 2)}
    lone = {n: v[4:5] for n, v in x.items()}
    assert torch.allclose(truth.posterior(x)[4:5], truth.posterior(lone), atol=1e-12)
    assert torch.allclose(truth.conditional_moments(x, ["b"]).mean[4:5], truth.conditional_moments(lone, ["b"]).mean)
    assert torch.allclose(truth.interventional("a", x["a"])[4:5], truth.interventional("a", x["a"][4:5]), atol=1e-12)
    turned = {n: x[n] for n in ("c", "a")}
    assert torch.allclose(truth.posterior(turned), truth.posterior(x), atol=1e-12)


def test_far_values_stay_probabilities() -> None:
    truth, x = world(), torch.tensor([[1e6, -1e6], [0.0, 0.0]])
    for p in (truth.observational("a", x), truth.interventional("a", x)):
        assert p.isfinite().all()
        assert torch.allclose(p.sum(1), torch.ones(2).double())


def test_bayes_accuracy_is_reached_by_the_posterior_on_data() -> None:
    data = synthetic_affect(sequence="single", sizes=(5000, 1, 1))
    flat, truth = data.train, data.truth
    for names in (("audio", "vision"), ("text", "audio", "vision")):
        posterior = truth.posterior({n: flat.values[n] for n in names})
        best, relative = posterior.argmax(1), (posterior / truth.class_shares).argmax(1)
        recall = [float((relative[flat.targets == k] == k).double().mean()) for k in range(4)]
        ceiling = truth.bayes_accuracy(names)
        assert ceiling.accuracy == pytest.approx(float((best == flat.targets).double().mean()), abs=0.02)
        assert ceiling.balanced == pytest.approx(sum(recall) / 4, abs=0.03)
        # Calibrated: where the posterior says p, the label follows at rate p.
        hot = torch.nn.functional.one_hot(flat.targets, 4)
        for low in (0.0, 0.25, 0.5, 0.75):
            cell = (posterior >= low) & (posterior < low + 0.25)
            assert float(posterior[cell].mean()) == pytest.approx(float(hot[cell].double().mean()), abs=0.03)


def test_a_fitted_classifier_comes_near_the_ceiling_from_below() -> None:
    data = synthetic_affect(sequence="single", sizes=(6000, 1, 6000))
    for names in (("vision",), ("text", "audio", "vision")):
        x, z = (torch.cat([d.values[n] for n in names], dim=1).numpy() for d in (data.train, data.test))
        score = LogisticRegression(max_iter=500).fit(x, data.train.targets).score(z, data.test.targets)
        assert (
            data.truth.bayes_accuracy(names).accuracy - 0.04 < score < data.truth.bayes_accuracy(names).accuracy + 0.015
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_world_tells_patterns_apart(seed: int) -> None:
    truth = synthetic_affect(sizes=(1, 1, 1), seed=seed).truth
    names = truth.model.names
    best = truth.bayes_accuracy(names, draws=512)
    known = truth.bayes_accuracy(names, knows_confounder=True, draws=512)
    assert 0.75 < best.balanced < 0.9
    assert known.accuracy > best.accuracy
    for name in names:
        alone = truth.bayes_accuracy([name], draws=512)
        others = truth.bayes_accuracy([n for n in names if n != name], draws=512)
        assert 0.45 < alone.balanced < 0.7
        assert alone.balanced + 0.05 < best.balanced
        assert others.balanced + 0.05 < best.balanced
    nothing = truth.bayes_accuracy([])
    assert nothing.accuracy == pytest.approx(0.4, abs=1e-6)
    assert nothing.balanced == pytest.approx(0.25, abs=1e-6)


def test_what_does_not_fit_is_named() -> None:
    truth, x = world(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="name: 'd' is unknown"):
        truth.interventional("d", x)
    with pytest.raises(ValueError, match=r"x: expected shape \(N, D\) with D = 1, got \(3, 2\)"):
        truth.interventional("b", x)
    with pytest.raises(ValueError, match="observed: 'd' is unknown"):
        truth.posterior({"d": x})
    with pytest.raises(ValueError, match=r"observed\['b'\]: expected shape \(N, D\) with D = 1, got \(3, 2\)"):
        truth.posterior({"b": x})
    with pytest.raises(ValueError, match=r"observed: expected as many rows everywhere, got \[2, 3\]"):
        truth.posterior({"a": x, "b": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match=r"observed: expected as many rows everywhere, got \[2, 3\]"):
        truth.posterior({"a": x}, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"confounder: expected values from 0 to 2, got \[0, 1, 3\]"):
        truth.posterior({"a": x}, torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match="missing: 'd' is unknown"):
        truth.conditional_moments({"a": x}, ["d"])
    with pytest.raises(ValueError, match="missing: expected modalities that are not observed, got 'a'"):
        truth.conditional_moments({"a": x}, ["a"])
    with pytest.raises(ValueError, match="names: 'd' is unknown"):
        truth.bayes_accuracy(["d"])
