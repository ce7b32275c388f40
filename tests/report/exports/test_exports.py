"""Exports that the tools of others read: model card, ML-BOM and JSON Schema."""

import json

import pytest
from jsonschema import Draft202012Validator

from ltu_jax.report.exports import bill_of_materials, model_card, report_schema
from ltu_jax.report.exports.metrics import escape
from ltu_jax.report.write import as_json
from tests.report.conftest import make_content

RETRAINED = ("original", "retrain", "retrain_2", "ltu")


def finished(**options):
    content = make_content(**options)
    digests = {name: 64 * str(i) for i, name in enumerate(("data", "original", "unlearned"))}
    time = {"date": "2026-01-31T12:00:00Z", "seconds": 3.0}
    versions = {"python": "3.11.2", "jax": "0.10.2", "numpy": "2.4.6", "device": "1 x cpu"}
    run = {**content.run, "sha256": digests, "time": time, "operator": "Ann <ann@example.org>"}
    return content._replace(run=run, versions=versions)


CONTENTS = {
    "run": finished(),
    "without_retrain": finished(models=("original", "ltu"), auc_band=None),
    "one_retrain": finished(models=("original", "retrain", "ltu"), auc_band=None),
    "bare": make_content(),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_card_is_read_by_huggingface_hub(name):
    from huggingface_hub import ModelCard

    content = CONTENTS[name]
    card = ModelCard(model_card(content), ignore_metadata_errors=False)
    found = {one.metric_name: one.metric_value for one in card.data.eval_results}
    row = next(row for row in content.rows if row["model"] == "ltu")
    assert found["test accuracy (TA), percent"] == row["ta"]
    assert ("average gap to Retrain, percent" in found) == ("without" not in name)
    assert all(one.dataset_name == "cifar10" for one in card.data.eval_results)
    assert "proves and guarantees nothing" in card.text


def test_hostile_names_do_not_break_the_card():
    from huggingface_hub import ModelCard

    run = {**CONTENTS["run"].run, "data": "a: [b]\n---\n<script>", "model": "m | `x`"}
    card = ModelCard(model_card(CONTENTS["run"]._replace(run=run)))
    assert card.data.eval_results[0].dataset_name == run["data"]
    assert "<script>" not in card.text
    assert escape("a|b") == "a\\|b"


@pytest.mark.parametrize("name", CONTENTS)
def test_the_bom_is_valid_for_the_validator_of_cyclonedx(name):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = bill_of_materials(CONTENTS[name])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == bill_of_materials(CONTENTS[name])
    model = json.loads(text)["metadata"]["component"]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    row = next(row for row in CONTENTS[name].rows if row["model"] == "ltu")
    assert repr(row["ta"]) in [one["value"] for one in metrics]
    assert ("hashes" in model) == (name != "bare")


def test_the_validator_refuses_a_broken_bom():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    broken = json.loads(bill_of_materials(CONTENTS["run"]))
    broken["metadata"]["component"]["modelCard"]["colour"] = "red"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


def test_the_schema_is_one():
    Draft202012Validator.check_schema(report_schema())


@pytest.fixture
def whole_audit(audit):
    return {**audit, "method": "ltu", "distances": []}


@pytest.mark.parametrize("name", CONTENTS)
def test_reports_follow_the_schema(name, whole_audit):
    validator = Draft202012Validator(report_schema())
    for content in (CONTENTS[name], CONTENTS[name]._replace(audit=whole_audit)):
        assert not list(validator.iter_errors(as_json(content)))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("rows"),
        lambda report: report.update(colour="red"),
        lambda report: report["rows"][0].update(ua=101),
        lambda report: report["rows"][0].pop("ua"),
        lambda report: report["run"].pop("sizes"),
        lambda report: report["run"]["sha256"].update(data="abc"),
        lambda report: report["request"].update(type="all"),
        lambda report: report["audit"].update(alpha=1),
        lambda report: report["audit"]["population"][0].pop("model"),
    ],
)
def test_the_schema_refuses_what_is_not_a_report(change, whole_audit):
    report = as_json(CONTENTS["run"]._replace(audit=whole_audit))
    change(report)
    assert list(Draft202012Validator(report_schema()).iter_errors(report))
