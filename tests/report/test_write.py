"""The files of a report: schema, escaping, figures, what is absent and what is not finite."""

import io
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ltu_jax.report.content import ROW_KEYS
from ltu_jax.report.figures import HEIGHT, WIDTH, pictures
from ltu_jax.report.html import render
from ltu_jax.report.write import as_json, versions, write_report

from .conftest import make_content

HOSTILE = "<script>alert('x')</script>\"&$x^{"
FIGURES = ["confidences", "roc", "steps", "classes"]


class Page(HTMLParser):
    """Collects what a page links to, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text += data


def _reject(constant):
    raise ValueError(constant)


def test_report_json_holds_rows_request_config_seeds_versions(content, page):
    report = json.loads((page.parent / "report.json").read_text(), parse_constant=_reject)
    assert {"rows", "request", "config", "seeds", "versions", "attacks", "run"} <= report.keys()
    assert [row["model"] for row in report["rows"]] == ["original", "retrain", "retrain_2", "ltu"]
    assert all(tuple(row) == ROW_KEYS for row in report["rows"])
    ltu = report["rows"][-1]
    assert (ltu["ua"], ltu["auc"], ltu["seconds"]) == (39.1, 56.5, 45.3)
    assert ltu["avg_gap"] == pytest.approx((0.4 + 2.0 + 0.5 + 1.7) / 4)
    assert report["seeds"] == {"run": 0, "retrain_2": 1}
    assert report["class_accuracy"]["ltu"] == content.class_accuracy["ltu"].tolist()
    assert "signals" not in report


def test_write_leaves_only_its_files_and_repeats_itself(content, page, tmp_path):
    assert write_report(content, tmp_path) == tmp_path / "report.html"
    first, second = (
        {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (page.parent, tmp_path)
    )
    assert first == second
    assert first.keys() == {
        "report.json",
        "report.html",
        *(f"figures/{name}.png" for name in FIGURES),
    }


def test_figures_are_pictures_of_the_right_size(drawn):
    many = pictures(make_content(num_classes=100)._replace(signals={}, history={}))
    assert [picture.name for picture in drawn + many] == [*FIGURES, "classes"]
    for picture in drawn + many:
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))
        assert pixels.shape == (HEIGHT, WIDTH)
        assert 0.01 < np.mean(pixels < 250) < 0.6
        assert len(picture.alt) > 40
        assert len(picture.caption) > 40


def test_nothing_from_outside_and_one_picture_a_figure(content, drawn):
    page = Page(render(content, drawn))
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert page.tags.count("img") == len(FIGURES)
    assert not {"script", "iframe", "object"} & set(page.tags)
    text = render(content, [])
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "forgotten" not in text.lower()


def test_every_value_is_escaped_and_no_name_is_read_as_maths():
    content = make_content()
    hostile = content._replace(
        run=content.run
        | {"data": HOSTILE, "model": HOSTILE, "method": HOSTILE, "command": HOSTILE}
        | {"seeds": {HOSTILE: 0}},
        request={"type": "group", "column": HOSTILE, "count": 2, "sha256": HOSTILE},
        rows=[*content.rows[:-1], {**content.rows[-1], "model": HOSTILE}],
        config={HOSTILE: {HOSTILE: HOSTILE}},
        versions={HOSTILE: HOSTILE},
        attacks=[
            dict.fromkeys(("name", "data", "sentence"), HOSTILE)
            | {"shares_features": True, "shares_data": True}
        ],
        signals=content.signals | {HOSTILE: content.signals["ltu"]},
        class_accuracy=content.class_accuracy | {HOSTILE: content.class_accuracy["ltu"]},
        class_names=[HOSTILE] * 10,
    )
    drawn = pictures(hostile)
    assert len(drawn) == len(FIGURES)
    text = render(hostile, drawn)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.text.count(HOSTILE) >= 14


def test_report_without_reference(tmp_path):
    content = make_content(models=("original", "ltu"), auc_band=None, history=False, num_classes=30)
    page = Page(write_report(content, tmp_path).read_text())
    assert "gaps to Retrain are unknown" in page.text
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == [
        "classes",
        "confidences",
        "roc",
    ]
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [row["avg_gap"] for row in rows] == [None, None]


def test_what_is_not_finite_becomes_null_and_is_left_out_of_figures():
    content = make_content()
    rows = [*content.rows[:-1], {"model": "ltu", "ua": math.nan, "auc": math.inf, "gaps": None}]
    nothing = np.full(10, np.nan)
    broken = content._replace(
        rows=rows,
        config={"lr": np.float32("nan"), "layers": (np.int64(1), None)},
        signals=content.signals | {"ltu": dict.fromkeys(content.signals["ltu"], nothing)},
        class_accuracy=content.class_accuracy | {"ltu": nothing},
        history={"loss_forget": [math.nan, 1.0, 2.0], "cosine": [0.1, math.nan, -0.2]},
    )
    plain = as_json(broken)
    json.dumps(plain, allow_nan=False)
    assert plain["rows"][-1] == {**dict.fromkeys(ROW_KEYS), "model": "ltu"}
    assert plain["config"] == {"lr": None, "layers": [1, None]}
    drawn = pictures(broken)
    assert [picture.name for picture in drawn] == FIGURES
    text = Page(render(broken, drawn)).text
    assert "nan" not in text.lower()
    assert "1, None" in text
    assert "np." not in text


def test_a_method_without_history_or_signals_has_fewer_figures(content):
    bare = content._replace(signals={}, class_accuracy={}, history={})
    assert pictures(bare) == []
    one_step = content._replace(history={"loss": [1.0]})
    assert "steps" in [picture.name for picture in pictures(one_step)]


def test_versions_name_what_the_numbers_depend_on():
    found = versions()
    import jax

    assert found["jax"] == jax.__version__
    assert found["numpy"] == np.__version__
    assert {
        "python",
        "flax",
        "optax",
        "orbax-checkpoint",
        "scipy",
        "scikit-learn",
        "ltu-jax",
        "platform",
        "device",
    } <= found.keys()
    assert found["device"].startswith(f"{jax.device_count()} x ")
