"""Names of the user's own in `report.html`: whatever they are, they stay text."""

from html.parser import HTMLParser

import flax.linen as nn
import numpy as np
import pytest

import ltu_jax
from ltu_jax.models import from_linen
from ltu_jax.report.figures import pictures
from ltu_jax.report.html import render
from tests import tiny

from .conftest import make_content

HOSTILE = {
    "element": "<script>alert(1)</script>",
    "attribute": '" onerror="alert(1)',
    "apostrophe": "' onfocus='alert(1)' autofocus='",
    "closing": "</title></style></pre></main><img src=x onerror=alert(1)>",
    "comment": "<!-- ",
    "entity": "&lt;script&gt;",
    "template": "$command ${title} {0} %s",
    "address": "javascript:alert(1)",
    "direction": "\u202ecba\u202c",
}


class Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes, its attribute values and text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.values, self.text, self.comments = [], [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.values += [value for _, value in attrs if value]

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}",))

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.comments.append(data)


def named(name):
    """A page on which everything that can be named has this name."""
    content = make_content()
    return content._replace(
        run=content.run
        | {"data": name, "model": name, "method": name, "command": name, "seeds": {name: 0}},
        request={"type": "group", "column": name, "count": 2, "sha256": name},
        rows=[*content.rows[:-1], {**content.rows[-1], "model": name}],
        config={name: {name: [name]}},
        versions={name: name},
        attacks=[{**attack, "name": name, "data": name} for attack in content.attacks],
        class_names=[f"{name} {i}" for i in range(10)],
    )


@pytest.fixture(scope="module")
def drawn():
    """Figures of hostile class names: pictures of text, and what is said of them."""
    return pictures(named(HOSTILE["closing"]))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_name_changes_the_text_of_a_page_and_nothing_else(drawn, kind):
    plain, hostile = (Skeleton(render(named(n), drawn)) for n in ("harmless", HOSTILE[kind]))
    assert hostile.elements == plain.elements
    assert hostile.comments == []
    assert hostile.text.count(HOSTILE[kind]) >= 14
    handlers = [name for _, *names in hostile.elements for name in names if name.startswith("on")]
    assert handlers == []
    assert not [value for value in hostile.values if value.startswith("javascript:")]


def test_the_page_forbids_what_might_slip_through(drawn):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policy in Skeleton(render(named("harmless"), drawn)).values


def test_the_parser_sees_an_element_that_is_not_escaped():
    assert ("img", "src", "onerror") in Skeleton(HOSTILE["closing"]).elements


def test_a_run_over_hostile_names_reports_them_as_text_and_keeps_ids_out(small_run):
    name, secret = HOSTILE["closing"], "<b>id-of-a-person"
    data = tiny.table(
        name=name,
        ids=[f"{secret}-{i}" for i in range(120)],
        class_names=[f"{name}{i}" for i in range(3)],
        groups={name: np.array([name, "other"])[np.arange(120) % 5 // 4]},
    )
    result = small_run(
        data=data,
        forget=ltu_jax.by_group(name, "other"),
        model=from_linen(nn.Dense(3), name=name),
        method="nothing",
        config=None,
        reference="none",
        epochs=1,
        command=name,
    )
    page = (result.folder / "report.html").read_text()
    found = Skeleton(page)
    assert found.text.count(name) >= 4
    assert "script" not in {element[0] for element in found.elements}
    assert not [e for e in found.elements if "onerror" in e]
    for file in result.folder.rglob("*.*"):
        if file.is_file():
            assert b"id-of-a-person" not in file.read_bytes(), file
