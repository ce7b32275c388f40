"""Figures are the same under every setting of the user, and show only what their font has."""

import os
import subprocess
import sys

import matplotlib
import pytest

from ltu_jax.report import figures
from ltu_jax.report.drawing import drawable_names, is_drawable
from ltu_jax.report.figures import pictures
from tests.report.conftest import make_content

STYLES = [
    {"font.size": 40.0, "axes.facecolor": "black", "savefig.pad_inches": 3.0},
    {"text.parse_math": False, "figure.dpi": 33.0, "axes.grid": True, "savefig.format": "pdf"},
]


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_pictures_do_not_depend_on_the_style_of_the_user(style):
    expected = [picture.png for picture in pictures(make_content())]
    with matplotlib.rc_context(style):
        assert [picture.png for picture in pictures(make_content())] == expected
        assert matplotlib.rcParams[next(iter(style))] == next(iter(style.values()))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["module://nowhere.backend", "NoSuchBackend"])
def test_unusable_settings_do_not_stop_a_figure(tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("backend: no_such_thing\nnonsense\n")
    code = "from ltu_jax.report.drawing import default_style, is_drawable\n"
    code += "with default_style(): print(is_drawable('a'))\n"
    code += "import os; print(os.environ['MPLBACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", backend]


@pytest.mark.parametrize("name", ["Größe", "Ελλάδα", "снег", "e\N{COMBINING ACUTE ACCENT}", "$x_1"])
def test_scripts_of_the_font_are_drawn(name):
    assert is_drawable(name)


@pytest.mark.parametrize("name", ["חתול", "قطة", "แมว", "बिल्ली", "\N{FOX FACE}", "\u732b", "a\nb"])
def test_other_scripts_become_numbers_with_the_names_in_the_caption(name):
    names, sentence = drawable_names(["cat", name])
    assert names == ["0", "1"]
    assert name in sentence


def test_a_figure_that_fails_is_left_out(monkeypatch, caplog):
    monkeypatch.setattr(figures, "style_axes", lambda axes: 1 / 0)
    assert pictures(make_content()) == []
    assert "ZeroDivisionError" in caplog.text
