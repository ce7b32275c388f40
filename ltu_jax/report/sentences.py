"""The report's findings and limits as sentences.

An audit can fail to find the forget set. It cannot show that a model holds nothing of it, and no
sentence here says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ltu_jax.report.content import (
    ReportContent,
    counted,
    find_row,
    label,
    measured,
    number,
    running,
    seconds,
)
from ltu_jax.report.noise import blind, floors, gap_of
from ltu_jax.report.verdict import verdict


def title(content: ReportContent) -> str:
    """Return the report's title: method, data and size of the request."""
    sizes = content.run["sizes"]
    return (
        f"{label(content.run['method'])} on {content.run['data']}: "
        f"unlearning {sizes['forget']:,} of {sizes['train']:,} training examples"
    )


def request(content: ReportContent) -> str:
    """Return the request in one sentence."""
    return request_in_words(content.request, content.run["sizes"])


def request_in_words(request: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """Return a request (`data.request.describe`) in one sentence."""
    count, train = sizes["forget"], sizes["train"]
    share = f"{count:,} of {counted(train, 'training example')} ({number(100 * count / train)} %)"
    if request["type"] == "rows":
        which = "marked in the file of outputs"
    elif request["type"] == "class":
        named = ", ".join(f"“{value}”" for value in request["value"])
        which = f"all that belong to class {named}"
    elif "column" in request:
        values = "one value" if request["count"] == 1 else f"one of {request['count']:,} values"
        which = f"all that have {values} of “{request['column']}”"
    else:
        which = "drawn at random" if request["type"] == "fraction" else "named by their ids"
    return f"Remove the influence of {share}, {which}."


_CHOSEN = {
    "default": "",
    "oracle_free": " Its options were tuned without a retrained model.",
    "oracle": (
        " ITS OPTIONS WERE TUNED AGAINST THE RETRAINED MODEL. A real deletion has no such model, so"
        " these gaps are optimistic."
    ),
}


def actions(content: ReportContent) -> str:
    """Return what was done to answer the request, and the time it took."""
    sizes = content.run["sizes"]
    if content.run.get("source") == "outputs":
        return outputs_given(content)
    method = find_row(content, content.run["method"])
    retrain = find_row(content, "retrain")
    model = content.run["model"]
    what = {
        "nothing": f"Nothing: the trained {model} model is unchanged.",
        "retrain_accessible": f"A {model} model was trained from scratch{_in_time(method)}.",
    }.get(
        content.run["method"],
        f"{label(content.run['method'])} changed the trained {model} model{_in_time(method)}.",
    )
    unused = "" if content.run.get("uses_validation", True) else ", which it did not use"
    validation = counted(sizes["validation"], "example")
    text = (
        f"{what} It had access to the forget set, {sizes['accessible']:,} of the other "
        f"{sizes['retain']:,} training examples and {validation} that no model was trained on"
        f"{unused}."
    ) + _CHOSEN[content.run.get("options_chosen", "default")]
    if not retrain:
        return text + " No model was retrained for comparison."
    count = "Two models were" if find_row(content, "retrain_2") else "One model was"
    return (
        f"{text} {count} retrained from scratch without the forget set as the reference"
        f"{_in_time(retrain, ', the first')}."
    )


def outputs_given(content: ReportContent) -> str:
    """Return what an audit has of models that were made elsewhere."""
    sizes, listed = content.run["sizes"], ", ".join(label(row["model"]) for row in content.rows)
    return (
        f"Not known here: the models were made elsewhere, and this audit has only their outputs "
        f"({listed}) on {counted(sizes['forget'], 'forget example')}, {sizes['retain']:,} other "
        f"training examples ({sizes['accessible']:,} of them seen by the method) and "
        f"{counted(sizes['test'], 'test example')}. Which rows are which is as the file says."
    )


def _in_time(row: Mapping[str, Any], prefix: str = "") -> str:
    time = running(row)
    return f"{prefix} in {seconds(time)}" if measured(time) else ""


def origins(content: ReportContent) -> list[str]:
    """Return whose recipe made each model: the user's or the library's."""
    by_origin: dict[str, list[str]] = {}
    for model, origin in content.run.get("made_by", {}).items():
        by_origin.setdefault(origin, []).append(label(model))
    made = [f"{', '.join(models)}: {origin}." for origin, models in by_origin.items()]
    accuracy, inputs = content.run.get("given_accuracy"), content.run.get("preprocessing")
    if accuracy:
        return [*made, given_accuracy(accuracy, inputs or "")]
    return [*made, f"Preprocessing: {inputs}."] if inputs else made


def given_accuracy(accuracy: Mapping[str, float], inputs: str) -> str:
    """Return how often a model of the user is right, and on which inputs."""
    return (
        f"The given model is right on {accuracy['train']:.1f} % of its training examples and on "
        f"{accuracy['heldout']:.1f} % of the held-out ones (at most 1,000 each); it gets {inputs}."
    )


def identity(content: ReportContent) -> list[str]:
    """Return what identifies the result: digest of the checkpoint and entry of the ledger."""
    digest = content.run.get("sha256", {}).get("unlearned")
    sentences = [f"Unlearned checkpoint: SHA-256 {digest}."] if digest else []
    if content.ledger:
        entry, digest = content.ledger["entry"], content.ledger["sha256"]
        sentences.append(f"Entry {entry} of ledger.jsonl: SHA-256 {digest}.")
    return sentences


def record(content: ReportContent) -> str:
    """Return when the report was made, in how much time and on what device."""
    time = content.run.get("time", {})
    duration = f"in {seconds(time['seconds'])}" if measured(time.get("seconds")) else ""
    date = time.get("date", "").replace("T", " ").replace("Z", " UTC")
    parts = [date, duration, content.versions.get("device", "")]
    return ", ".join(filter(None, parts))


def measurements(content: ReportContent) -> list[str]:
    """Return the findings, the headline first."""
    sentences = [
        verdict(content).sentence,
        _far_from_chance(content),
        backdoor(content.rows),
        _utility(content),
    ]
    sentences += [f"Failure diagnostic: {text}." for text in content.run.get("signs", [])]
    sentences += over_unlearning(content) + sequential_requests(content)
    return [sentence for sentence in sentences if sentence]


def sequential_requests(content: ReportContent) -> list[str]:
    """Return the cumulative drift of this model's requests, if there is a ledger."""
    if not content.ledger:
        return []
    drift = content.ledger["drift"]
    sentences = [drift["sentence"]]
    if drift["earlier"]:
        now = drift["models"][content.run["method"]]
        retrain = drift["models"].get("retrain", {})
        target = f" (Retrain {number(retrain['auc_earlier'])})" if retrain else ""
        sentences.append(
            f"Earlier requests removed {counted(drift['earlier'], 'other example')}, in no set of "
            "this run. There the model's error is "
            f"{number(now['error_earlier'])} % and the loss attack's AUC "
            f"{number(now['auc_earlier'])}{target}."
        )
    return sentences


def _far_from_chance(content: ReportContent) -> str:
    """Explain a target of the loss attack that is not 50, the value of a random draw."""
    retrain, band = find_row(content, "retrain").get("auc"), content.auc_band
    if not measured(retrain) or band is None or band[0] <= 50 <= band[1]:
        return ""
    return (
        f"Retrain's AUC is {number(retrain)}, not 50: this forget set differs from the test data, "
        "so a model that never saw it distinguishes them too. Retrain's value is the target."
    )


def _utility(content: ReportContent) -> str:
    method = find_row(content, content.run["method"])
    base = "retrain" if find_row(content, "retrain") else "original"
    reference = find_row(content, base)
    parts = []
    for key, name in (
        ("ta", "test accuracy"),
        ("ra_inaccessible", "accuracy on the retain examples that the method never saw"),
    ):
        if measured(method.get(key)):
            compared = f" ({label(base)} {number(reference.get(key))} %)"
            parts.append(f"{name} {number(method[key])} %{compared}")
    return f"Utility: {', '.join(parts)}." if parts else ""


def backdoor(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the attack success rate of a backdoor for every model; empty if not measured."""
    known = [row for row in rows if measured(row.get("attack_success"))]
    if not known:
        return ""
    listed = ", ".join(f"{label(row['model'])} {number(row['attack_success'])} %" for row in known)
    return f"Share of triggered test inputs classified as the backdoor's target class: {listed}."


def over_unlearning(content: ReportContent) -> list[str]:
    """Return a sentence for UA and for MIA where they exceed Retrain's by more than the floor."""
    method, found = find_row(content, content.run["method"]), floors(content)
    sentences = []
    for key, meaning in (
        ("ua", "it misclassifies more of the forget set than a model that never saw it"),
        ("mia", "more of the forget set looks unseen than to a model that never saw it"),
    ):
        gap = gap_of(method, key)
        if gap is not None and key in found and gap > found[key].value:
            sentences.append(
                f"Over-unlearned: {key.upper()} is {number(gap)} percentage points above "
                f"Retrain's; {meaning}, which an attacker can detect."
            )
    return sentences


def confidence(content: ReportContent) -> list[str]:
    """Return the uncertainty of the findings from chance alone."""
    sentences, sizes = _noise(content), content.run["sizes"]
    # At a rate of 50 %, where chance is largest; exact for no rate, too small for none.
    forget, test = (98 / math.sqrt(max(sizes[part], 1)) for part in ("forget", "test"))
    sentences.append(
        f"A rate on {counted(sizes['forget'], 'forget example')} has a 95 % interval of at most ± "
        f"{number(forget)} percentage points, a rate on {counted(sizes['test'], 'test example')} "
        f"of at most ± {number(test)}."
    )
    if content.audit is not None:
        sentences.append(
            f"If unlearning were exact, the audit would raise a false alarm in at most "
            f"{number(100 * content.audit['alpha'])} % of cases, over all tests that count."
        )
    return sentences


def _noise(content: ReportContent) -> list[str]:
    """Return where the noise floor and the interval of the loss attack come from."""
    found, sentences = floors(content).get("avg_gap"), []
    if found is not None:
        second = "" if found.second is None else f"a second Retrain's gap is {number(found.second)}"
        parts = [second, f"on this many examples chance alone gives up to {number(found.chance)}"]
        sentences.append(f"Noise of the average gap: {', '.join(filter(None, parts))}.")
    if unseen := [name.replace("_", " ") for name in blind(content) if name != "avg_gap"]:
        sentences.append(
            f"Cannot show forgetting here: {', '.join(map(str.upper, unseen))}. There the original "
            "model's gap is within the floor."
        )
    if content.auc_band is not None:
        sentences.append(
            "The interval of the loss attack comes from two models retrained on this request, "
            "widened by their difference or by the 95 % interval over examples."
        )
    return sentences


def terms(content: ReportContent) -> list[tuple[str, str]]:
    """Return the terms that a reader of the first page needs, each with its meaning."""
    meanings = {
        "Loss attack": "calls an example a training example if its loss is low.",
        "AUC": "how often that attack ranks a pair correctly, in percent; 50 is chance.",
    }
    if find_row(content, "retrain"):
        meanings["Retrain"] = (
            "a model trained from scratch without the forget set. That is exact unlearning, so its "
            "values are the targets."
        )
    if find_row(content, "retrain_2"):
        meanings["Second Retrain"] = "the same with another seed. Its gap is noise, not a leak."
    return list(meanings.items())


def reproduction(content: ReportContent) -> str:
    """Return what it takes to repeat the run, in addition to its command."""
    if content.run.get("source") == "outputs":
        return "The same file, seed and package versions give the same numbers."
    start = (
        "The run was called from Python; names in the call are those of your objects, and "
        "run.json, next to this file, holds its settings. "
        if str(content.run["command"]).startswith("ltu_jax.")
        else ""
    )
    return (
        f"{start}The same data, seed, package versions and kind of device give the same numbers; "
        "only date and times differ."
    )


def limits(content: ReportContent) -> list[str]:
    """Return what this report cannot show."""
    sentences = []
    outputs = content.run.get("source") == "outputs"
    how = "Add outputs of retrained models" if outputs else 'Run with reference "retrain"'
    if not find_row(content, "retrain"):
        sentences.append(
            "No model was retrained, so the gaps to Retrain are unknown. UA, RA, TA and MIA cannot "
            "be called too high or too low: their targets are Retrain's values, not 0 and not 100. "
            f"{how} to measure them."
        )
    elif not find_row(content, "retrain_2"):
        sentences.append(
            "There is no second Retrain, so the noise floor is unknown; a gap of one or two "
            "percentage points may be chance."
        )
    sentences.append(
        "It proves and guarantees nothing. These attacks found this on this many examples; a "
        "stronger attack may find more."
    )
    if content.auc_band is not None:
        low, high = content.auc_band
        sentences.append(
            f"With {counted(content.run['sizes']['forget'], 'forget example')}, a leak that moves "
            f"the loss attack's AUC by less than {number((high - low) / 2)} percentage points "
            "cannot be seen."
        )
    sentences += [
        "It is one run with one seed per model; intervals over seeds need several runs.",
        "It concerns the unlearned checkpoint alone, not the data, the original checkpoint, their "
        "copies or anything derived from them.",
    ]
    return sentences
