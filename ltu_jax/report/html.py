"""`report.html`: one self-contained file for screen, phone and paper."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.report import answers_html, sentences
from ltu_jax.report.audit import html as audit_html
from ltu_jax.report.content import (
    ReportContent,
    compiling,
    find_row,
    label,
    measured,
    number,
    plain,
    running,
    seconds,
    signed,
    timed_rows,
)
from ltu_jax.report.figures import HEIGHT, WIDTH, Picture
from ltu_jax.report.noise import floors, gap_of, is_noise
from ltu_jax.report.template import PAGE
from ltu_jax.report.verdict import verdict

COLUMNS = (
    ("ua", "UA", "forget error"),
    ("ra", "RA", "retain acc."),
    ("ta", "TA", "test acc."),
    ("mia", "MIA", "look unseen"),
    ("avg_gap", "Avg. gap", "% points"),
    ("auc", "AUC", "loss attack"),
    ("ks", "KS", "distance"),
    ("ra_accessible", "RA seen", "by method"),
    ("ra_inaccessible", "RA unseen", "by method"),
    ("seconds", "Time", "+ compilation"),
)
BACKDOOR = ("attack_success", "ASR", "trigger succeeds")
DIGESTS = {
    "original": "starting checkpoint",
    "unlearned": "unlearned checkpoint",
    "outputs": "file of outputs",
}
ROLES = {
    "original": "before unlearning",
    "retrain": "the target",
    "retrain_2": "the floor",
}
GAPS = "In percent; the small numbers are signed gaps to Retrain in percentage points."
READING_GAPS = (
    "<p><strong>The target of every metric is Retrain's value</strong>, not 0 and not 100: Retrain "
    "is a model trained from scratch without the forget set. Small numbers are signed gaps to it; "
    "a gap in either direction is informative. <strong>“noise” marks a gap that chance explains"
    "</strong>: it is within the floor, the larger of the second Retrain's gap (which differs from "
    "the first by its seed alone) and the 95 % half-width of a difference of two rates on as many "
    "examples. Where Original is marked, the metric cannot show forgetting on this request. Avg. "
    "gap is the mean of the four distances to Retrain. “In interval” means within what two models "
    "retrained on this request span for the AUC.</p>"
)
READING = (
    "<p>UA is the error on the forget set, RA the accuracy on the retain set, TA the accuracy on "
    "test data. MIA is the share of the forget set that an SVC on the model's confidence calls "
    "unseen. AUC is that of a loss attack on forget set against test data: 50 is chance. KS is "
    "the largest difference between the distributions of the confidence on both. RA seen and RA "
    "unseen split RA by whether the method had access to the examples.</p>"
)


def render(content: ReportContent, pictures: Sequence[Picture]) -> str:
    """Return the page; every value of `content` is escaped."""
    level = verdict(content).level
    return PAGE.substitute(
        title=escape(sentences.title(content)),
        level=level,
        worst="outside" if audit_html.level(content) == "outside" else level,
        request=escape(sentences.request(content)),
        warnings=_warnings(content.run.get("warnings", [])),
        actions=escape(sentences.actions(content)),
        record=escape(sentences.record(content)),
        origins=_entry("Recipes", sentences.origins(content)),
        identity=_entry("Identity", sentences.identity(content)),
        units=GAPS if find_row(content, "retrain") else "In percent.",
        claims=_claims(content),
        confidence=_paragraphs(sentences.confidence(content)),
        terms="".join(
            f"<p><b>{escape(term)}</b>: {escape(meaning)}</p>"
            for term, meaning in sentences.terms(content)
        ),
        tiles="".join(_tile(*tile) for tile in _tiles(content)),
        answers=answers_html.section(content),
        results=_results(content),
        headline=audit_html.headline(content),
        audit=audit_html.section(content),
        reading=(READING_GAPS if find_row(content, "retrain") else "") + READING,
        figures="".join(map(_figure, pictures)),
        limits="".join(f"<li>{escape(text)}</li>" for text in sentences.limits(content)),
        attacks=_attacks(content.attacks),
        command=escape(content.run["command"]),
        reproduction=escape(sentences.reproduction(content)),
        details=_details(content),
    )


def _claims(content: ReportContent) -> str:
    finding, *others = sentences.measurements(content)
    return f'<p class="finding">{_text(finding)}</p>{_paragraphs(others)}'


def _warnings(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<dt>Warnings</dt><dd class="outside"><ul>{items}</ul></dd>' if items else ""


def _entry(name: str, texts: Sequence[str]) -> str:
    return f"<dt>{name}</dt><dd>{_paragraphs(texts)}</dd>" if texts else ""


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f"<p>{_text(text)}</p>" for text in sentences)


def _text(sentence: str) -> str:
    """Return a sentence, escaped; no line ends between a number and its unit."""
    return escape(sentence).replace(" %", "&nbsp;%").replace("± ", "±&nbsp;")


def _tiles(content: ReportContent) -> list[tuple[str, str, str]]:
    """Return the headline numbers: name, value, and the value to compare it with."""
    method, retrain = find_row(content, content.run["method"]), find_row(content, "retrain")
    original, band = find_row(content, "original"), content.auc_band
    floor = floors(content).get("avg_gap")
    reference = ("Retrain", retrain) if retrain else ("Original", original)
    return [
        (
            "Avg. gap to Retrain",
            number(method.get("avg_gap")),
            f"noise floor {number(floor.value)}, Original {number(original.get('avg_gap'))}",
        )
        if floor
        else (
            "Error on the forget set",
            f"{number(method.get('ua'))} %",
            f"Original {number(original.get('ua'))} %",
        ),
        (
            "Loss attack's AUC",
            number(method.get("auc")),
            f"Retrain {number(band[0])} to {number(band[1])}, "
            f"Original {number(original.get('auc'))}"
            if band is not None
            else f"{reference[0]} {number(reference[1].get('auc'))}",
        ),
        (
            "Test accuracy",
            f"{number(method.get('ta'))} %",
            f"{reference[0]} {number(reference[1].get('ta'))} %",
        ),
        (
            "Time to unlearn",
            seconds(running(method)),
            f"{_compilation(method)}{reference[0]} {seconds(running(reference[1]))}",
        ),
    ]


def _compilation(row: Mapping[str, Any]) -> str:
    return f"{compiling(row)} compilation, " if compiling(row) else ""


def _tile(name: str, value: str, compare: str) -> str:
    return (
        f'<li class="card"><small>{escape(name)}</small><b>{escape(value)}</b>'
        f"<small>{escape(compare)}</small></li>"
    )


def _results(content: ReportContent) -> str:
    columns = _columns(content)
    head = "".join(f'<th scope="col">{name}<small>{unit}</small></th>' for _, name, unit in columns)
    body = "".join(_row(content, row) for row in timed_rows(content))
    return (
        '<table class="results"><thead><tr><th scope="col">Model</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _columns(content: ReportContent) -> Sequence[tuple[str, str, str]]:
    """Return the columns of the result table; with the attack success rate if measured."""
    known = any(measured(row.get("attack_success")) for row in content.rows)
    columns = (*COLUMNS[:-1], BACKDOOR, COLUMNS[-1]) if known else COLUMNS
    return columns if find_row(content, "retrain") else [c for c in columns if c[0] != "avg_gap"]


def _row(content: ReportContent, row: Mapping[str, Any]) -> str:
    mark = ' class="method"' if row["model"] == content.run["method"] else ""
    role = "unlearned" if mark else ROLES.get(row["model"], "the floor")
    cells = "".join(f"<td>{_cell(content, row, key)}</td>" for key, _, _ in _columns(content))
    name = escape(label(row["model"]))
    return f'<tr{mark}><th scope="row">{name}<small>{role}</small></th>{cells}</tr>'


def _cell(content: ReportContent, row: Mapping[str, Any], key: str) -> str:
    value, below, band = row.get(key), [], content.auc_band
    if key == "seconds":
        return _stacked(seconds(running(row)), [compiling(row)])
    if row["model"] != "retrain":
        gap = gap_of(row, key) if key in GAP_METRICS else None
        below = [] if gap is None else [signed(gap)]
        if row["model"] != "retrain_2" and is_noise(row, key, floors(content)):
            below.append("noise")
    if key == "auc" and measured(value) and band is not None:
        below = ["in interval" if band[0] <= value <= band[1] else "outside"]
    return _stacked(number(value), below)


def _stacked(value: str, below: Sequence[str]) -> str:
    return value + "".join(f"<small>{text}</small>" for text in below if text)


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f'<figure class="card" id="{escape(picture.name)}"><img width="{WIDTH}" height="{HEIGHT}" '
        f'src="data:image/png;base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _attacks(attacks: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            "Attack",
            "Data",
            "Shared with the method",
            "Definition",
        )
    )
    body = "".join(
        f'<tr><th scope="row">{escape(str(attack["name"]))}</th>'
        f"<td>{escape(str(attack['data']))}</td><td>{_shared(attack)}</td>"
        f"<td>{escape(str(attack['sentence']))}</td></tr>"
        for attack in attacks
    )
    return f'<table class="attacks"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _shared(attack: Mapping[str, Any]) -> str:
    shared = [name for name in ("features", "data") if attack[f"shares_{name}"]]
    return " and ".join(shared) if shared else "nothing"


def _details(content: ReportContent) -> str:
    sizes = {f"{name} examples": f"{size:,}" for name, size in content.run["sizes"].items()}
    run = {key: content.run[key] for key in ("data", "model", "method")}
    digests = content.run.get("sha256", {})
    time = content.run.get("time", {})
    record = {"date": time.get("date"), "duration": seconds(time.get("seconds"))} | {
        f"SHA-256 of the {DIGESTS.get(name, name)}": value for name, value in digests.items()
    }
    return "".join(
        f'<div class="card"><h3>{name}</h3>{_pairs(values)}</div>'
        for name, values in (
            ("Request", content.request),
            ("Run", {**run, **sizes}),
            ("Record", record),
            ("Seeds", content.run["seeds"]),
            ("Configuration", content.config),
            ("Versions", content.versions),
        )
    )


def _pairs(values: Mapping[str, Any]) -> str:
    pairs = "".join(
        f"<dt>{_breakable(name)}</dt><dd>{escape(text)}</dd>"
        for name, text in _flatten(plain(values))
    )
    return f"<dl>{pairs}</dl>"


def _breakable(name: str) -> str:
    """Return the name of an option, escaped; lines may end after a dot or an underscore."""
    return escape(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested mappings as `outer.inner` names, each with its value as text."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{name}.")
        elif isinstance(value, list):
            flat.append((name, ", ".join(map(str, value))))
        else:
            flat.append((name, "none" if value is None else str(value)))
    return flat
