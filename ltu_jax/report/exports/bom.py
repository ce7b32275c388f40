"""A CycloneDX ML-BOM of the unlearned model: what it was made from, and what was measured."""

from __future__ import annotations

import importlib
import json
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ltu_jax.files import json_digest
from ltu_jax.report import sentences
from ltu_jax.report.answers import NOT_COVERED, guarantee_sentence, residual_risk
from ltu_jax.report.content import ReportContent, label
from ltu_jax.report.exports.card import missing
from ltu_jax.report.exports.metrics import metrics
from ltu_jax.report.write import as_json

NOT_PACKAGES = ("python", "platform", "device")


def bill_of_materials(content: ReportContent) -> str:
    """Return an ML-BOM (CycloneDX 1.6, JSON); the same report gives the same text.

    Raises:
      InputError: `cyclonedx-python-lib` is not installed.
    """
    try:
        output = _module("output.json")
    except ImportError as error:
        raise missing("cyclonedx-python-lib") from error
    found = json.loads(output.JsonV1Dot6(_bom(content)).output_as_string())
    # The library has no model cards yet; its validator checks them.
    found["metadata"]["component"]["modelCard"] = _model_card(content)
    for component in found["components"]:
        if component["type"] == "data":
            component["data"] = [{"type": "dataset", "name": component["name"]}]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _bom(content: ReportContent) -> Any:
    component = _module("model.component")
    make, kinds = component.Component, component.ComponentType
    run, versions = content.run, content.versions
    digests = run.get("sha256", {})
    unlearned = make(
        name=f"{run['model']} after {label(run['method'])}",
        type=kinds.MACHINE_LEARNING_MODEL,
        bom_ref="unlearned",
        hashes=_hashes(digests.get("unlearned")),
        description=sentences.title(content),
    )
    original = make(
        name=f"{run['model']} before unlearning",
        type=kinds.MACHINE_LEARNING_MODEL,
        bom_ref="original",
        hashes=_hashes(digests.get("original")),
    )
    data = make(
        name=run["data"],
        type=kinds.DATA,
        bom_ref="data",
        hashes=_hashes(digests.get("data")),
    )
    packages = [
        make(name=name, version=version, type=kinds.LIBRARY, bom_ref=f"package-{name}")
        for name, version in versions.items()
        if name not in NOT_PACKAGES
    ]
    bom = _module("model.bom").Bom(
        components=[original, data, *packages],
        serial_number=uuid5(NAMESPACE_URL, json_digest(as_json(content))),
    )
    _describe(bom, content, unlearned)
    bom.register_dependency(unlearned, [original, data, *packages])
    bom.register_dependency(original, [data])
    return bom


def _describe(bom: Any, content: ReportContent, unlearned: Any) -> None:
    """Set the metadata: the model, its maker's tool, date, operator and request."""
    bom.metadata.component = unlearned
    date = content.run.get("time", {}).get("date")
    # Of the run, so that the same report gives the same text.
    bom.metadata.timestamp = datetime.fromisoformat(date or "1970-01-01T00:00:00Z")
    if operator := content.run.get("operator"):
        contact = _module("model.contact").OrganizationalContact(name=operator)
        bom.metadata.authors.add(contact)
    facts = {
        "method": content.run["method"],
        "request": sentences.request(content),
        "command": content.run["command"],
        "guarantee": guarantee_sentence(content),
        "residual risk": residual_risk(content),
        **{name: content.versions.get(name) for name in NOT_PACKAGES},
    }
    for name, value in facts.items():
        if value is not None:
            entry = _module("model").Property(name=f"ltu_jax:{name}", value=str(value))
            bom.metadata.properties.add(entry)


def _hashes(digest: str | None) -> list[Any]:
    model = _module("model")
    return [model.HashType(alg=model.HashAlgorithm.SHA_256, content=digest)] if digest else []


def _module(name: str) -> Any:
    """Return a module of cyclonedx; untyped, since decorators hide its constructors."""
    return importlib.import_module(f"cyclonedx.{name}")


def _model_card(content: ReportContent) -> dict[str, Any]:
    measured = []
    for one in metrics(content):
        entry: dict[str, Any] = {
            "type": f"{one.name}, percent",
            "value": repr(one.value),
            "slice": one.part,
        }
        if one.band is not None:
            low, high = map(repr, one.band)
            entry["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
            entry["type"] += "; interval of retrained models"
        measured.append(entry)
        if one.target is not None:
            entry = {"type": f"Retrain's {one.name}, percent", "value": repr(one.target)}
            measured.append({**entry, "slice": one.part})
    limits = [*sentences.limits(content), *(f"Not covered: {text}" for text in NOT_COVERED)]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "modelArchitecture": str(content.run["model"]),
            "datasets": [{"ref": "data"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": measured},
        "considerations": {
            "technicalLimitations": limits,
            "ethicalConsiderations": [
                {
                    "name": "residual risk for the people in the forget set",
                    "mitigationStrategy": residual_risk(content),
                }
            ],
        },
    }
