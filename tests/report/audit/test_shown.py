"""How an audit is shown: sentences, terminal tables, the section of the page and its figures."""

import copy
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ltu_jax.report.audit import sentences
from ltu_jax.report.audit.figures import pictures
from ltu_jax.report.audit.tables import bounds, grids, population, tables
from ltu_jax.report.content import DASH, label
from ltu_jax.report.figures import HEIGHT, WIDTH
from ltu_jax.report.html import render
from ltu_jax.report.read import read_content
from ltu_jax.report.write import write_report
from tests.report.audit.made_up_audit import SHARES, attack, counted_test
from tests.report.conftest import make_content
from tests.report.test_write import HOSTILE, Page

NEXT = "ltu ensemble"


def _bare(audit):
    return {**audit, "ensembles": {}, "distinguishing": {}, "per_example": {}, "tests": []}


def _text(tables_, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables_:
        console.print(table)
    return console.export_text()


def test_a_test_that_finds_nothing_says_what_it_would_have_seen(audit):
    first, *others = sentences.verdicts(audit, "LTU")
    assert first.startswith(
        "Exact unlearning cannot be rejected for LTU: none of 2 counted tests found a trace "
        "(at alpha = 0.05, Holm-corrected)."
    )
    assert sentences.summary(audit, "LTU").level == "inside"
    assert others[0] == (
        "U-LiRA on noisy copies cannot reject exact unlearning at alpha = 0.05 (Holm-adjusted "
        "p = 0.31, AUC 50.4 %); it would have seen epsilon >= 0.42."
    )
    assert "epsilon >=" not in others[1]


def test_a_test_that_finds_a_trace_says_so_with_its_bound(audit):
    audit["tests"][2] = counted_test(
        "U-LiRA on noisy copies", 1e-6, 2e-6, finding="AUC 61.0 %", epsilon=1
    )
    found = sentences.summary(audit, "LTU")
    assert found.level == "outside"
    assert "is rejected for LTU: 1 of 2 counted tests found a trace" in found.sentence
    assert sentences.tests(audit)[0] == (
        "U-LiRA on noisy copies rejects exact unlearning at alpha = 0.05 (Holm-adjusted p < 0.001, "
        "AUC 61.0 %): it finds a trace. A lower bound on the leak: epsilon >= 1.0."
    )


def test_the_adjusted_p_value_decides_not_the_raw_one(audit):
    audit["tests"][2] = counted_test("U-LiRA on noisy copies", 0.03, 0.06)
    assert sentences.summary(audit, "LTU").level == "inside"
    assert "cannot reject" in sentences.tests(audit)[0]
    audit["alpha"] = 0.1
    assert sentences.summary(audit, "LTU").level == "outside"


def test_what_a_method_was_trained_against_is_named_and_kept_out(audit):
    third = sentences.tests(audit)[2]
    assert third.startswith("U-LiRA uses the signals of the method's membership models")
    assert SHARES in third
    assert third.endswith("it found no trace (AUC 50.4 %, p = 0.20, not corrected).")
    audit["tests"][0] = counted_test("U-LiRA", 0.001, finding="AUC 60.0 %")
    assert sentences.tests(audit)[2].endswith(
        "it counts against it: it finds a trace (AUC 60.0 %, p = 0.001, not corrected)."
    )
    found = sentences.summary(audit, "LTU")
    assert found.level == "relative"
    assert found.sentence.endswith("Tests that do not count did find a trace: U-LiRA.")
    audit["tests"] = audit["tests"][:2]
    assert "No test that counts" in sentences.summary(audit, "LTU").sentence


def test_no_finding_of_an_attack_without_power_means_nothing(audit):
    audit["per_example"]["shadow"]["u_lira_noisy"] = attack(51.2, 0.1)
    (sentence, *_) = sentences.tests(audit)
    assert "before unlearning either (AUC 51.2 %, interval 49.9 to 52.5)" in sentence
    found = sentences.summary(audit, "LTU")
    assert found.level == "inside"
    assert "1 of them would have found none before" in found.sentence
    audit["distinguishing"]["original"]["forget"]["noisy"]["p_value"] = 0.2
    assert "could not distinguish original from retrained" in sentences.tests(audit)[1]
    assert sentences.summary(audit, "LTU").level == "powerless"


@pytest.mark.parametrize(
    ("part", "shift", "phrase"),
    [
        ("forget", -2.1, "Over-unlearned: on the forget set the mean margin is 2.1 standard dev"),
        ("forget", -2.1, "(p = 0.004, not corrected): higher losses than unseen data"),
        ("forget", 1.3, "Under-unlearned: on the forget set the mean margin is 1.3 standard"),
        ("retain", -0.8, "Damage: on the retain set the mean margin is 0.8 standard deviations b"),
        ("test", -0.8, "Damage: on the test data"),
        ("test", 0.8, "No damage but a difference: on the test data the mean margin is 0.8 stand"),
    ],
)
def test_over_and_under_unlearning_and_damage_are_two_sided(audit, part, shift, phrase):
    before = sentences.shifts(audit)
    assert [sentence.split(":")[0] for sentence in before] == [
        "Neither over- nor under-unlearning seen",
        "No damage seen",
        "No damage seen",
    ]
    audit["distinguishing"]["unlearned"][part]["margin"] |= {"shift": shift, "shift_p": 0.004}
    (sentence,) = set(sentences.shifts(audit)) - set(before)
    assert phrase in sentence
    assert ("below" if shift < 0 else "above") in sentence


@pytest.mark.parametrize(
    ("part", "kind", "phrases"),
    [
        ("per_example", "shadow_unlearned", ["U-LiRA, RMIA", "types shadow_unlearned and"]),
        ("per_example", "shadow", ["before unlearning is unknown", "types shadow."]),
        ("per_example", "shadow_retrain", ["floor, is unknown", "types shadow_retrain."]),
        ("distinguishing", "original", ["power of that test", "types original."]),
        ("distinguishing", "unlearned", ["or damage", "types retrain and unlearned."]),
    ],
)
def test_what_is_unknown_names_the_missing_ensemble(audit, part, kind, phrases):
    assert sentences.missing(audit) == []
    del audit[part][kind]
    (sentence,) = sentences.missing(audit)
    assert all(phrase in sentence for phrase in phrases)


def test_an_attack_that_finds_what_was_never_there_is_not_trusted(audit):
    assert sentences.floors(audit) == []
    audit["per_example"]["shadow_retrain"]["rmia"] = attack(57.0, 0.001)
    (sentence,) = sentences.floors(audit)
    assert sentence.startswith("Do not trust RMIA here")


def test_without_ensembles_there_is_the_legacy_table_and_the_next_step(audit):
    bare = _bare(audit)
    summary, rest = sentences.verdicts(bare, "LTU")
    assert "No test that counts" in summary
    assert NEXT in rest
    assert [grid.title for grid in grids(bare)] == ["Legacy attacks on the forget set as a whole"]
    content = make_content()._replace(audit=bare)
    assert pictures(content) == []
    page = Page(render(content, []))
    assert NEXT in page.text
    assert "How to read the bounds" not in page.text


def test_grids_hold_the_numbers_with_their_context(audit):
    rows = {row[0]: row for row in population(audit["population"]).rows}
    ltu = rows[("LTU", "")]
    assert rows[("Retrain", "target")][1] == ("45.8", "")
    assert ltu[2] == ("44.1", "47.7")  # the SVC's share and that of thresholds, by confidence
    assert ("1.1", "of 7,000") in ltu
    assert (DASH, "") in ltu
    found = {row[0][0]: [cell[0] for cell in row[1:]] for row in bounds(*_both(audit)).rows}
    assert found["U-LiRA: one model"] == ["0.31", "4.2", "0.90"]
    assert found["RMIA: all models"] == ["0.0", "8.1", "0.42"]
    assert found["RMIA: the forget set as a group"] == ["1.7", "31.4", "2.9"]
    assert found["Distinguishing attack"] == ["0.0", "2.1", DASH]
    text = _text(tables(audit), width=80)
    for expected in ("0.41", "2.02", "3.07", "0.33", "0.36", "12,800", "49.1–51.7", "target"):
        assert expected in text


def _both(audit):
    return audit["per_example"], audit["distinguishing"]


def test_terminal_tables_fit_80_columns_and_keep_markup_as_text(audit):
    audit["population"][-1]["model"] = "[red]mine[/red]"
    audit["population"][0]["model"] = "retrain_accessible"
    audit["population"][2]["model"] = "m" * 60
    for shown in (audit, _bare(audit)):
        text = _text(tables(shown), width=80)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert "[red]mine[/red]" in text
        assert "nan" not in text.lower()


def test_the_page_holds_the_audit_and_escapes_it(audit, tmp_path):
    audit["tests"][0] |= {"name": HOSTILE, "shares": HOSTILE, "finding": HOSTILE}
    audit |= {"command": HOSTILE, "ensembles": {HOSTILE: audit["ensembles"]["retrain"]}}
    audit["population"][-1]["model"] = HOSTILE
    content = make_content()
    content = content._replace(
        run=content.run | {"method": HOSTILE},
        rows=[*content.rows[:-1], {**content.rows[-1], "model": HOSTILE}],
        signals={},
        audit=audit,
    )
    drawn = pictures(content)
    page = Page(render(content, drawn))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 9
    assert page.text.count(f"Exact unlearning cannot be rejected for {HOSTILE}") == 2
    assert page.tags.count("table") == 3 + 4
    assert "#audit" in page.links


def test_a_trace_colours_the_summary_whatever_the_loss_attack_says(audit):
    content = make_content(ltu_auc=50.0)
    assert '<dl class="card summary inside">' in render(content, [])
    assert '<dl class="card summary inside">' in render(content._replace(audit=audit), [])
    audit["tests"][2] = counted_test("U-LiRA on noisy copies", 1e-6, 2e-6)
    page = render(content._replace(audit=audit), [])
    assert page.count('<dl class="card summary outside">') == 2
    assert '<dd class="inside">' in page
    assert '<dd class="outside">' in page


def test_a_page_without_audit_says_nothing_of_it(content):
    text = render(content, [])
    assert "#audit" not in text
    assert "Audited" not in Page(text).text


def _without_numbers(value):
    """The same with null for every number, as JSON holds what is not finite."""
    if isinstance(value, dict):
        return {key: _without_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_numbers(inner) for inner in value]
    return value if isinstance(value, str) else None


def test_what_is_not_finite_is_a_dash_everywhere(audit):
    empty = _without_numbers(audit) | {"alpha": 0.05}
    for row in empty["population"]:
        row["loss_auc_interval"] = [None, None]
    empty["ensembles"] = audit["ensembles"]
    content = make_content()._replace(audit=empty)
    text = Page(render(content, pictures(content))).text + _text(tables(empty), width=80)
    assert "nan" not in text.lower()
    assert "None" not in text
    assert f"p = {DASH}" in text


@pytest.mark.parametrize("trace", [False, True])
def test_words_that_promise_too_much_are_never_used(audit, trace):
    if trace:
        audit["tests"] = [{**test, "p_value": 1e-9} for test in audit["tests"]]
        audit["per_example"]["shadow_retrain"]["rmia"]["p_value"] = 1e-9
    audits = [audit, _bare(audit), {**audit, "per_example": {}}, {**audit, "distinguishing": {}}]
    for shown in audits:
        text = Page(render(make_content()._replace(audit=shown), [])).text.lower()
        text += " ".join(sentences.verdicts(shown, label("ltu"))).lower()
        assert not [word for word in ("forgotten", "proved", " safe") if word in text]


def test_pictures_are_of_the_right_size_and_written(audit, tmp_path):
    content = make_content()._replace(audit=audit)
    drawn = pictures(content)
    assert [picture.name for picture in drawn] == ["audit_examples", "audit_klom"]
    assert "RMIA before unlearning 71.0, after unlearning 50.4" in drawn[0].alt
    assert "forget set unlearned 0.41 (floor 0.33)" in drawn[1].alt
    for picture in drawn:
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"))
        assert pixels.shape == (HEIGHT, WIDTH)
        assert 0.01 < np.mean(pixels < 250) < 0.6
    small = content._replace(signals={}, class_accuracy={}, history={})
    write_report(small, tmp_path)
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == [
        "audit_examples",
        "audit_klom",
    ]
    scores, metrics = tmp_path / "scores.npz", tmp_path / "metrics.jsonl"
    np.savez(scores)
    metrics.touch()
    assert read_content(tmp_path / "report.json", scores, metrics).audit == json.loads(
        json.dumps(audit)
    )


def test_one_attack_without_interval_is_still_drawn(audit):
    shown = copy.deepcopy(audit)
    shown["per_example"] = {"shadow_unlearned": {"rmia": {"auc": 52.0, "auc_interval": None}}}
    shown["distinguishing"] = {}
    (picture,) = pictures(make_content()._replace(audit=shown))
    assert "RMIA after unlearning 52.0" in picture.alt
