import io

import numpy as np
import pytest
import torch

from mmaffect.attention import CausalEntmaxAttention
from mmaffect.ops import InputError
from mmaffect.plots import attention_matrices


def weights(steps: int, seed: int, **options) -> torch.Tensor:
    torch.manual_seed(seed)
    return CausalEntmaxAttention(8, **options)(torch.randn(1, steps, 8))[1][0, 0].detach()


@pytest.fixture
def columns():
    kinds = {"vanilla": {"alpha": 1, "causal": False}, "causal": {}}
    return {k: {"text": weights(5, 0, **o), "audio": weights(7, 1, **o)} for k, o in kinds.items()}


def test_panels_hold_the_weights_on_one_scale(columns):
    figure = attention_matrices(columns)
    assert len(figure.axes) == 5  # two by two, and the bar
    for axes, (kind, modality) in zip(
        figure.axes, [(k, m) for m in ("text", "audio") for k in ("vanilla", "causal")], strict=False
    ):
        (image,) = axes.images
        wanted = columns[kind][modality].double().numpy()
        np.testing.assert_array_equal(image.get_array().filled(0.0), wanted)
        np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), wanted == 0)
        assert image.get_clim() == (0.0, max(float(w.max()) for c in columns.values() for w in c.values()))
        assert axes.texts[0].get_text() == f"{(wanted == 0).mean():.0%} zero"
        assert axes.yaxis_inverted()  # first query on top


def test_labels(columns):
    axes = attention_matrices(columns).axes
    assert [a.get_title() for a in axes[:4]] == ["vanilla", "causal", "", ""]
    assert [a.get_xlabel() for a in axes[:4]] == ["", "", "source step", "source step"]
    assert [a.get_ylabel() for a in axes] == ["text\nquery step", "", "audio\nquery step", "", "attention weight"]


def test_only_exact_zeros_are_white():
    matrix = torch.tensor([[1.0, 0.0], [1e-30, 0.5]])
    image = attention_matrices({"a": {"m": matrix}}).axes[0].images[0]
    colors = image.to_rgba(image.get_array())
    assert colors[0, 1, 3] == 0  # nothing painted: the white of the axes
    assert colors[1, 0, 3] == 1
    assert colors[1, 0, 0] < 0.9
    assert image.axes.get_facecolor() == (1, 1, 1, 1)


def test_white_and_grey_in_the_rendered_pixels():
    matrix = torch.tensor([[1.0, 0.0, 0.0], [1e-30, 0.5, 0.0], [0.0, 0.0, 0.0]])
    figure = attention_matrices({"a": {"m": matrix}}, steps={"m": torch.tensor([True, True, False])})
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=100)
    pixels = np.frombuffer(buffer.getvalue(), np.uint8).reshape(int(figure.get_figheight() * 100), -1, 4)

    def at(source, query):
        x, y = figure.axes[0].transData.transform((source, query))
        return tuple(pixels[int(pixels.shape[0] - y), int(x), :3])

    assert at(1, 0) == (255, 255, 255)
    assert at(2, 0) == at(0, 2) == at(2, 2) == (200, 200, 200)
    assert at(0, 1) not in ((255, 255, 255), (200, 200, 200))


def test_absent_steps_count_for_nothing_whatever_they_hold(columns):
    steps = {"text": torch.tensor([True] * 3 + [False] * 2), "audio": torch.ones(7, dtype=torch.bool)}
    poisoned = {k: {m: w.clone() for m, w in c.items()} for k, c in columns.items()}
    for kind in poisoned.values():
        kind["text"][3:] = float("nan")
        kind["text"][:, 3:] = -1e6
    clean, dirty = (attention_matrices(c, steps=steps) for c in (columns, poisoned))
    for a, b in zip(clean.axes[:4], dirty.axes[:4], strict=True):
        np.testing.assert_array_equal(a.images[0].get_array().filled(0.0), b.images[0].get_array().filled(0.0))
        assert a.texts[0].get_text() == b.texts[0].get_text()
    grey = np.ma.getmaskarray(dirty.axes[0].images[1].get_array())
    assert not grey[3:].any()
    assert not grey[:, 3:].any()
    assert grey[:3, :3].all()
    assert len(dirty.axes[2].images) == 1
    keys = [[t.get_text() for t in f.legends[0].get_texts()] for f in (attention_matrices(columns), dirty)]
    assert keys == [["exactly zero"], ["exactly zero", "no such step"]]


def test_a_modality_without_any_step():
    figure = attention_matrices({"a": {"m": torch.zeros(2, 2)}}, steps={"m": torch.zeros(2, dtype=torch.bool)})
    assert figure.axes[0].texts[0].get_text() == "nothing real"


def test_any_dtype_and_gradient():
    matrix = torch.eye(3, dtype=torch.bfloat16, requires_grad=True)
    image = attention_matrices({"a": {"m": matrix}}).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().filled(0.0), np.eye(3))


def test_refusals():
    eye = torch.eye(2)
    with pytest.raises(InputError, match="columns: expected at least one kind"):
        attention_matrices({})
    with pytest.raises(InputError, match="columns: expected at least one kind"):
        attention_matrices({"a": {}})
    with pytest.raises(InputError, match=r"columns\['b'\]: expected the modalities \['m'\], got \['n'\]"):
        attention_matrices({"a": {"m": eye}, "b": {"n": eye}})
    with pytest.raises(InputError, match=r"steps: expected the modalities \['m'\], got \[\]"):
        attention_matrices({"a": {"m": eye}}, steps={})
    with pytest.raises(ValueError, match=r"columns\['a'\]\['m'\]: expected shape \(T, T\) with T = 3.*got \(2, 3\)"):
        attention_matrices({"a": {"m": torch.zeros(2, 3)}})
    with pytest.raises(ValueError, match=r"columns\['b'\]\['m'\]: expected shape \(T, T\) with T = 2.*got \(3, 3\)"):
        attention_matrices({"a": {"m": eye}, "b": {"m": torch.eye(3)}})
    with pytest.raises(ValueError, match=r"columns\['a'\]\['m'\]: expected shape \(T, T\).*got \(\)"):
        attention_matrices({"a": {"m": torch.tensor(1.0)}})
    with pytest.raises(ValueError, match=r"steps\['m'\]: expected shape \(T\) with T = 2, got \(3,\)"):
        attention_matrices({"a": {"m": eye}}, steps={"m": torch.ones(3, dtype=torch.bool)})
    for bad in (float("nan"), float("inf"), -0.5):
        with pytest.raises(InputError, match=rf"expected finite weights of at least 0 between real steps, got {bad}"):
            attention_matrices({"a": {"m": torch.tensor([[bad, 0.0], [0.0, 1.0]])}})
