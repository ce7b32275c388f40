"""Reports of every origin, exported and validated."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from ltu_jax.report.exports import report_schema
from ltu_jax.runs.exports import FORMATS, export_report
from ltu_jax.runs.outputs import audit_outputs
from tests.audit.outputs.made import arrays
from tests.audit.outputs.test_audit import ensembles
from tests.refusals import refused


def check(folder):
    report = json.loads((folder / "report.json").read_text())
    found = [error.message for error in Draft202012Validator(report_schema()).iter_errors(report)]
    assert found == []
    for to, (name, _) in FORMATS.items():
        assert export_report(folder, to) == folder / name
        assert (folder / name).stat().st_size > 500
        (folder / name).unlink()


def test_a_run_is_exported(complete):
    check(complete.folder)


def test_a_run_without_references_is_exported(small_run):
    check(small_run(reference="none", method="nothing", config=None).folder)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, ensembles()], ids=["plain", "ensembles"])
def test_an_audit_of_outputs_is_exported(more, tmp_path):
    audit_outputs(arrays(**more), out=tmp_path / "audit")
    check(tmp_path / "audit")


def test_an_audit_of_scores_is_exported(tmp_path):
    scores = {n: np.abs(arrays()[n][:, 0]) for n in ("original", "unlearned")}
    audit_outputs(arrays("retrain", "retrain_2", **scores), kind="loss", out=tmp_path / "audit")
    check(tmp_path / "audit")


def test_bad_exports_are_refused(tmp_path, complete):
    with refused("run"):
        export_report(tmp_path, "card")
    (tmp_path / "report.json").write_text("[]")
    with refused("run"):
        export_report(tmp_path, "card")
    with refused("to"):
        export_report(complete.folder, "pdf")
    with refused("out"):
        export_report(complete.folder, "card", out=tmp_path)
