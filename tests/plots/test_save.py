import os
import stat

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from mmaffect.ops import InputError
from mmaffect.plots import save

STARTS = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF", ".svg": b"<?xml"}


def drawn(value: float = 1.0) -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, value], label="line")
    figure.axes[0].set_title("title")
    return figure


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_kind_by_suffix_and_nothing_left_beside(tmp_path, suffix):
    path = tmp_path / f"figure{suffix}"
    assert save(drawn(), str(path)) == path
    assert path.read_bytes().startswith(STARTS[suffix.lower()])
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_same_figure_same_bytes(tmp_path, suffix):
    first, again, other = (save(drawn(v), tmp_path / f"{k}{suffix}") for k, v in enumerate((1.0, 1.0, 0.5)))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_pdf_fonts_are_truetype(tmp_path):
    content = save(drawn(), tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in content.replace(b" ", b"")
    assert b"/CIDFontType2" in content.replace(b" ", b"")


def test_the_old_file_stays_until_the_new_is_whole(tmp_path, monkeypatch):
    path = save(drawn(), tmp_path / "figure.png")
    old = path.read_bytes()
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append((path.read_bytes(), a.parent)), replace(a, b)))
    save(drawn(0.5), path)
    assert seen == [(old, tmp_path)]
    assert path.read_bytes() != old


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = save(drawn(), tmp_path / "figure.png")
    old = path.read_bytes()

    def half(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="no space left"):
        save(drawn(), path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["figure.png"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "plain", save(drawn(), tmp_path / "a.png"))]
    assert modes[0] == modes[1]


def test_dpi_is_in_pixels_per_inch(tmp_path):
    content = save(drawn(), tmp_path / "a.png", dpi=50).read_bytes()
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (100, 50)


def test_settings_are_as_before(tmp_path):
    before = dict(mpl.rcParams)
    save(drawn(), tmp_path / "a.pdf")
    assert dict(mpl.rcParams) == before


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"path: expected a name that ends in .pdf, .png or .svg, got 'a.jpg'"):
        save(drawn(), tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"path: expected a folder that exists, got '.*nowhere'"):
        save(drawn(), tmp_path / "nowhere" / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match=r"path: expected a file, got the folder '.*b.png'"):
        save(drawn(), tmp_path / "b.png")
