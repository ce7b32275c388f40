"""The report's findings and limits as sentences.

An audit can fail to find the forget set. It cannot show that a model holds nothing of it, and no
sentence here says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltu_jax.report.content import ReportContent, find_row, label, measured, number, seconds, signed


class Verdict(NamedTuple):
    """The finding of the loss attack.

    Attributes:
      level: `inside` or `outside` the null interval; `relative` where Retrain's AUC is the target;
        `powerless` where the attack does not find the forget set in the original model either;
        `unknown` where there is nothing to compare with.
      sentence: the finding as a sentence.
    """

    level: str
    sentence: str


def verdict(content: ReportContent) -> Verdict:
    """Return the verdict on the loss attack's AUC for the unlearned model.

    The null interval is valid where forget and test examples are exchangeable for a retrained
    model. Where Retrain lies outside, they are not, and Retrain's AUC is the target.
    """
    auc = find_row(content, content.run["method"]).get("auc")
    retrain = find_row(content, "retrain").get("auc")
    if not measured(auc):
        return Verdict("unknown", "The loss attack was not measured on the unlearned model.")
    band = content.auc_band
    if measured(retrain) and (band is None or not band[0] <= retrain <= band[1]):
        return Verdict("relative", _relative(content, auc, retrain))
    if band is None:
        return Verdict(
            "unknown",
            f"The loss attack's AUC is {number(auc)}. This forget set is not a random sample and "
            "there is no retrained model, so that nothing can be compared with it.",
        )
    span = f"the {number(band[0])} to {number(band[1])} that hold 95 % of exact unlearnings"
    if auc > band[1]:
        return Verdict(
            "outside",
            f"The loss attack still finds the forget set: AUC {number(auc)}, above {span}.",
        )
    if auc < band[0]:
        return Verdict(
            "outside",
            f"The loss attack still finds the forget set, by losses that are too high: AUC "
            f"{number(auc)}, below {span}. The model is over-unlearned.",
        )
    original = find_row(content, "original").get("auc")
    if measured(original) and band[0] <= original <= band[1]:
        return Verdict(
            "powerless",
            f"The loss attack shows nothing here: its AUC is {number(auc)}, within {span}, but the "
            f"AUC of the original model, which was trained on the forget set, is "
            f"{number(original)} and within them too.",
        )
    return Verdict(
        "inside",
        "At the 5 % level, the loss attack cannot distinguish the forget set from unseen data: AUC "
        f"{number(auc)}, within {span}.",
    )


def _relative(content: ReportContent, auc: float, retrain: float) -> str:
    floor = find_row(content, "retrain_2").get("auc")
    second = f"; a second Retrain has {number(floor)}" if measured(floor) else ""
    return (
        f"The loss attack's AUC is {number(auc)}, {signed(auc - retrain)} percentage points from "
        f"Retrain's {number(retrain)}{second}. Retrain's value is the target here, not 50: a model "
        "that never saw these examples distinguishes them from the test data too."
    )


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
    share = f"{count:,} of {train:,} training examples ({number(100 * count / train)} %)"
    if request["type"] == "class":
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
    text = (
        f"{what} It had access to the forget set, {sizes['accessible']:,} of the other "
        f"{sizes['retain']:,} training examples and {sizes['validation']:,} examples that no model "
        f"was trained on{unused}."
    ) + _CHOSEN[content.run.get("options_chosen", "default")]
    if not retrain:
        return text + " No model was retrained for comparison."
    count = "Two models were" if find_row(content, "retrain_2") else "One model was"
    return (
        f"{text} {count} retrained from scratch without the forget set as the reference"
        f"{_in_time(retrain, ', the first')}."
    )


def _in_time(row: Mapping[str, Any], prefix: str = "") -> str:
    return f"{prefix} in {seconds(row['seconds'])}" if measured(row.get("seconds")) else ""


def measurements(content: ReportContent) -> list[str]:
    """Return the findings, one sentence each, the loss attack first."""
    sentences = [
        verdict(content).sentence,
        backdoor(content.rows),
        _gap(content),
        _utility(content),
    ]
    sentences += [f"Failure diagnostic: {text}." for text in content.run.get("signs", [])]
    sentences += over_unlearning(content) + sequential_requests(content)
    return [sentence for sentence in sentences if sentence]


def sequential_requests(content: ReportContent) -> list[str]:
    """Return the cumulative drift of this model's requests and its ledger entry, if any."""
    if not content.ledger:
        return []
    drift, entry = content.ledger["drift"], content.ledger["entry"]
    sentences = [drift["sentence"]]
    if drift["earlier"]:
        now = drift["models"][content.run["method"]]
        retrain = drift["models"].get("retrain", {})
        target = f" (Retrain {number(retrain['auc_earlier'])})" if retrain else ""
        sentences.append(
            f"Earlier requests removed {drift['earlier']:,} other examples, which are in no set of "
            "this run. On them the model's error is "
            f"{number(now['error_earlier'])} % and the loss attack's AUC "
            f"{number(now['auc_earlier'])}{target}."
        )
    return [*sentences, f"Entry {entry} of ledger.jsonl, SHA-256 {content.ledger['sha256']}."]


def _gap(content: ReportContent) -> str:
    gap = find_row(content, content.run["method"]).get("avg_gap")
    if not measured(gap):
        return ""
    text = f"The average gap to Retrain over UA, RA, TA and MIA is {number(gap)} percentage points"
    floor = find_row(content, "retrain_2").get("avg_gap")
    original = find_row(content, "original").get("avg_gap")
    others = [f"a second Retrain has {number(floor)}"] if measured(floor) else []
    others += [f"the original model {number(original)}"] if measured(original) else []
    return f"{text}; {', '.join(others)}." if others else f"{text}."


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
    """Return a sentence for UA and for MIA where they exceed Retrain's beyond chance.

    Chance is the larger of the second Retrain's gap and the 95 % half-width of the difference of
    two proportions over the forget set.
    """
    method, floor = find_row(content, content.run["method"]), find_row(content, "retrain_2")
    sentences = []
    for key, meaning in (
        ("ua", "it misclassifies more of the forget set than a model that never saw it"),
        ("mia", "more of the forget set looks unseen than to a model that never saw it"),
    ):
        gap = (method.get("gaps") or {}).get(key)
        if not measured(gap) or not measured(method.get(key)):
            continue
        noise = _half_width(method[key] - gap, content.run["sizes"]["forget"])
        floor_gap = (floor.get("gaps") or {}).get(key)
        if gap > max(noise, abs(floor_gap) if measured(floor_gap) else 0):
            sentences.append(
                f"Over-unlearned: {key.upper()} is {number(gap)} percentage points above "
                f"Retrain's; {meaning}, which an attacker can detect."
            )
    return sentences


def _half_width(percent: float, count: int) -> float:
    """Return the 95 % half-width, in percentage points, of the difference of two rates."""
    rate = min(max(percent / 100, 0.0), 1.0)
    return 196 * math.sqrt(2 * rate * (1 - rate) / count)


def confidence(content: ReportContent) -> list[str]:
    """Return the uncertainty of the findings from chance alone."""
    sentences, sizes = [], content.run["sizes"]
    if content.auc_band is not None:
        sentences.append(
            "Of 20 models that never saw the forget set, about 19 are inside the loss attack's "
            "null interval, and one is outside by chance (95 %)."
        )
    # At a rate of 50 %, where chance is largest; exact for no rate, too small for none.
    forget, test = (98 / math.sqrt(max(sizes[part], 1)) for part in ("forget", "test"))
    sentences.append(
        f"A rate on the {sizes['forget']:,} forget examples has a 95 % interval of at most ± "
        f"{number(forget)} percentage points, a rate on the {sizes['test']:,} test examples of at "
        f"most ± {number(test)}."
    )
    if content.audit is not None:
        sentences.append(
            f"If unlearning were exact, the audit would raise a false alarm in at most "
            f"{number(100 * content.audit['alpha'])} % of cases, over all tests that count."
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
        meanings["Second Retrain"] = "the same with another seed; its gap is the noise floor."
    return list(meanings.items())


def reproduction(content: ReportContent) -> str:
    """Return what it takes to repeat the run, in addition to its command."""
    command = str(content.run["command"])
    start = (
        "The run was called from Python; run.json, next to this file, holds its settings. "
        if command.startswith("ltu_jax.")
        else ""
    )
    return (
        f"{start}The same data, seed, package versions and kind of device give the same numbers; "
        "they are listed below."
    )


def limits(content: ReportContent) -> list[str]:
    """Return what this report cannot show."""
    sentences = []
    if not find_row(content, "retrain"):
        sentences.append(
            "No model was retrained, so the gaps to Retrain are unknown. UA, RA, TA and MIA cannot "
            "be called too high or too low: their targets are Retrain's values, not 0 and not 100. "
            'Run with reference "retrain" to measure them.'
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
            f"With {content.run['sizes']['forget']:,} forget examples, a leak that moves the loss "
            f"attack's AUC by less than {number((high - low) / 2)} percentage points cannot be "
            "seen."
        )
    if content.auc_band is not None and content.request["type"] == "ids":
        sentences.append(
            "The null interval assumes that the ids are like a random draw from the training set. "
            "If they are not, Retrain's values are the target."
        )
    sentences += [
        "It is one run with one seed per model; intervals over seeds need several runs.",
        "It concerns the unlearned checkpoint alone, not the data, the original checkpoint, their "
        "copies or anything derived from them.",
    ]
    return sentences
