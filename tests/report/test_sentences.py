"""The sentences of a report: levels of the verdict and the numbers that they hold."""

import io
import math

import pytest
from rich.console import Console

from ltu_jax.report import sentences
from ltu_jax.report.content import number, seconds, signed
from ltu_jax.report.result_table import result_table
from ltu_jax.terminal import Terminal

from .conftest import VALUES, make_content


def test_no_retrain_leaves_nothing_to_compare_with():
    content = make_content(models=("original", "ltu"), auc_band=None)
    assert "gaps to Retrain are unknown" in sentences.limits(content)[0]
    assert "No model was retrained" in sentences.actions(content)


def test_a_missing_second_retrain_is_named():
    content = make_content(models=("original", "retrain", "ltu"))
    assert "no second Retrain" in sentences.limits(content)[0]
    assert "One model was retrained" in sentences.actions(content)


@pytest.mark.parametrize(
    ("request_", "phrase"),
    [
        ({"type": "ids", "count": 1000, "sha256": "00"}, "named by their ids"),
        ({"type": "class", "value": ["cat", "dog"]}, "all that belong to class “cat”, “dog”"),
        (
            {"type": "group", "column": "writer", "count": 1, "sha256": "00"},
            "all that have one value of “writer”",
        ),
        (
            {"type": "ids", "column": "patient", "count": 1200, "sha256": "00"},
            "all that have one of 1,200 values of “patient”",
        ),
        ({"type": "fraction", "fraction": 0.1, "seed": 0}, "drawn at random"),
    ],
)
def test_request_in_words(content, request_, phrase):
    sentence = sentences.request(content._replace(request=request_))
    assert sentence.startswith("Remove the influence of 1,000 of 10,000 training examples (10.0 %)")
    assert phrase in sentence


def _with_ua_gap(content, gap):
    rows = [dict(row) for row in content.rows]
    rows[-1] |= {"ua": VALUES["retrain"][0] + gap, "gaps": rows[-1]["gaps"] | {"ua": gap}}
    return content._replace(rows=rows)


def test_over_unlearning_is_flagged_beyond_chance_only(content):
    # Half-width over 1,000 examples at 39.5 %: 1.96 sqrt(2 * .395 * .605 / 1000) = 4.28 points.
    assert not sentences.over_unlearning(_with_ua_gap(content, 4.2))
    assert not sentences.over_unlearning(_with_ua_gap(content, -20.0))
    (sentence,) = sentences.over_unlearning(_with_ua_gap(content, 4.4))
    assert sentence.startswith("Over-unlearned: UA is 4.4 ")


def test_numbers_as_text():
    assert [number(x) for x in (1234.56, -0.25, None, math.nan)] == ["1,234.6", "−0.2", "–", "–"]
    assert [signed(x) for x in (0.04, -0.04, 1.25, -3.0, None)] == [
        "0.0",
        "0.0",
        "+1.2",
        "−3.0",
        "–",
    ]
    assert [seconds(x) for x in (4.2, 45.3, 900, 9000, math.nan)] == [
        "4.2 s",
        "45 s",
        "15 min",
        "2.5 h",
        "–",
    ]


@pytest.mark.parametrize("width", [80, 66, 40, 26])
def test_a_narrow_terminal_cuts_no_number(content, width):
    rows = [dict(row, compile_seconds=123.4) for row in content.rows]
    rows[-1]["model"] = "a_method_of_a_very_long_name"
    console = Terminal(width=width, record=True, file=io.StringIO())
    console.show(result_table(rows))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_terminal_table_fits_80_columns_and_keeps_markup_as_text(content):
    rows = [*content.rows, {"model": "[red]m[/red]", "ua": math.nan}]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(result_table(rows))
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    for expected in ("Second Retrain", "−38.3", "target", "20.3", "[red]m[/red]", "45 s"):
        assert expected in text


@pytest.mark.parametrize(
    ("run", "phrase"),
    [
        ({"options_chosen": "oracle"}, "TUNED AGAINST THE RETRAINED MODEL"),
        ({"options_chosen": "oracle_free"}, "tuned without a retrained model"),
        ({"uses_validation": False}, "which it did not use."),
        ({"method": "nothing"}, "Nothing: the trained"),
        ({"method": "retrain_accessible"}, "was trained from scratch"),
    ],
)
def test_actions_state_tuning_and_data(run, phrase):
    content = make_content()
    default = sentences.actions(content)
    assert phrase not in default
    assert phrase in sentences.actions(content._replace(run={**content.run, **run}))


def test_confidence_depends_on_the_sizes(content):
    noise, blind, band, rates = sentences.confidence(content)
    assert "a second Retrain's gap is 1.1" in noise
    assert blind.startswith("Cannot show forgetting here: RA, TA.")
    assert "retrained on this request" in band
    assert all(value in rates for value in ("1,000", "± 3.1", "7,000", "± 1.2"))
    alone = make_content(models=("original", "ltu"), auc_band=None)
    assert sentences.confidence(alone) == [rates]
    *_, audited = sentences.confidence(content._replace(audit={"alpha": 0.05}))
    assert "false alarm in at most 5.0 % of cases" in audited


def test_one_example_is_not_one_examples(content):
    one = {**content.run, "sizes": dict.fromkeys(content.run["sizes"], 1)}
    said = [*sentences.confidence(content._replace(run=one)), *sentences.limits(content)]
    said.append(sentences.actions(content._replace(run=one)))
    assert not [sentence for sentence in said if "1 examples" in sentence]
    assert "1 forget example " in " ".join(said)


def test_models_of_one_recipe_share_a_sentence(content):
    made_by = {"original": "given", "retrain": "trained", "retrain_2": "trained"}
    found = sentences.origins(content._replace(run={**content.run, "made_by": made_by}))
    assert found == ["Original: given.", "Retrain, Second Retrain: trained."]


def test_the_record_names_date_duration_and_device(content):
    run = {**content.run, "time": {"date": "2026-01-02T03:04:05Z", "seconds": 61.2}}
    record = sentences.record(content._replace(run=run))
    assert record == "2026-01-02 03:04:05 UTC, in 61 s, 1 x cpu (cpu)"
    assert sentences.record(content) == "1 x cpu (cpu)"


def test_terms_follow_from_the_models(content):
    assert [term for term, _ in sentences.terms(content)][2:] == ["Retrain", "Second Retrain"]
    alone = make_content(models=("original", "ltu"), auc_band=None)
    assert [term for term, _ in sentences.terms(alone)] == ["Loss attack", "AUC"]


def test_a_run_from_python_names_its_settings_file(content):
    assert "run.json" not in sentences.reproduction(content)
    called = content._replace(run={**content.run, "command": "ltu_jax.unlearn(...)"})
    assert "run.json" in sentences.reproduction(called)
