"""What the numbers say in plain words, and what they do not say.

The wording is careful on purpose: an audit can fail to find the forget set, it can never show that
a model holds nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ltu_jax.report.content import ReportContent, find_row, label, measured, number, seconds, signed


class Verdict(NamedTuple):
    """What the loss attack found.

    Attributes:
      level: `inside` or `outside` the band of exact unlearning; `relative` where Retrain's own AUC
        is the target; `powerless` where the attack does not find the forget set in the original
        model either; `unknown` where there is nothing to compare with.
      sentence: the same in words.
    """

    level: str
    sentence: str


def verdict(content: ReportContent) -> Verdict:
    """Judge the loss attack's AUC on the method's model.

    The band of exact unlearning holds where forget and test examples are exchangeable for a
    retrained model. Where Retrain itself lies outside it, they are not, and Retrain's own AUC is
    the target.
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
            "there is no retrained model, so there is nothing to compare it with.",
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
            f"The loss attack still finds the forget set, by a loss that is too high: AUC "
            f"{number(auc)}, below {span}. The method went too far.",
        )
    original = find_row(content, "original").get("auc")
    if measured(original) and band[0] <= original <= band[1]:
        return Verdict(
            "powerless",
            f"The loss attack says nothing here: its AUC is {number(auc)}, within {span}, but that "
            f"of the original model, which was trained on the forget set, is {number(original)} "
            "and within them too.",
        )
    return Verdict(
        "inside",
        "At the 5 % level, the loss attack cannot tell the forget set from unseen data: AUC "
        f"{number(auc)}, within {span}.",
    )


def _relative(content: ReportContent, auc: float, retrain: float) -> str:
    floor = find_row(content, "retrain_2").get("auc")
    second = f"; a second Retrain has {number(floor)}" if measured(floor) else ""
    return (
        f"The loss attack's AUC is {number(auc)}, {signed(auc - retrain)} points from Retrain's "
        f"{number(retrain)}{second}. Retrain's value is the target here, not 50: a model that "
        "never saw these examples tells them from the test data too."
    )


def title(content: ReportContent) -> str:
    """The report's title: method, data and how much was asked."""
    sizes = content.run["sizes"]
    return (
        f"{label(content.run['method'])} on {content.run['data']}: "
        f"unlearning {sizes['forget']:,} of {sizes['train']:,} training examples"
    )


def asked(content: ReportContent) -> str:
    """The request in one sentence."""
    return request_in_words(content.request, content.run["sizes"])


def request_in_words(request: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """A request, as `request.describe` has it, in one sentence; `sizes` as in `ReportContent`."""
    count, train = sizes["forget"], sizes["train"]
    share = f"{count:,} of {train:,} training examples ({number(100 * count / train)} %)"
    if request["kind"] == "class":
        named = ", ".join(f"“{value}”" for value in request["value"])
        which = f"all that belong to class {named}"
    elif request["kind"] == "group":
        which = f"all whose “{request['column']}” is “{request['value']}”"
    else:
        which = "drawn at random" if request["kind"] == "fraction" else "named by their ids"
    return f"Remove the influence of {share}, {which}."


_CHOSEN = {
    "default": "",
    "oracle_free": " Its options were chosen by trials that knew no retrained model.",
    "oracle": (
        " ITS OPTIONS WERE CHOSEN BY THE ORACLE: by trials compared with the retrained model below,"
        " which a deletion in earnest does not have. Its gaps are smaller than such a one's."
    ),
}


def done(content: ReportContent) -> str:
    """What was done to answer the request, and at what cost."""
    sizes = content.run["sizes"]
    method = find_row(content, content.run["method"])
    retrain = find_row(content, "retrain")
    model = content.run["model"]
    what = {
        "nothing": f"Nothing: the trained {model} model is left as it was.",
        "retrain_accessible": f"A {model} model was trained anew{_in_time(method)}.",
    }.get(
        content.run["method"],
        f"{label(content.run['method'])} changed the trained {model} model{_in_time(method)}.",
    )
    unused = "" if content.run.get("uses_validation", True) else ", which it left unused"
    text = (
        f"{what} It was given the forget set, {sizes['accessible']:,} of the other "
        f"{sizes['retain']:,} training examples and {sizes['validation']:,} that no model was "
        f"trained on{unused}."
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
    """What was measured, one sentence each, the loss attack first."""
    sentences = [
        verdict(content).sentence,
        backdoor(content.rows),
        _gap(content),
        _utility(content),
    ]
    sentences += [f"A sign of failure: {sign}." for sign in content.run.get("signs", [])]
    sentences += over_unlearning(content) + request_after_request(content)
    return [sentence for sentence in sentences if sentence]


def request_after_request(content: ReportContent) -> list[str]:
    """What this model's requests have come to, and where that is written; empty without ledger."""
    if not content.ledger:
        return []
    drift, entry = content.ledger["drift"], content.ledger["entry"]
    sentences = [drift["sentence"]]
    if drift["earlier"]:
        now = drift["networks"][content.run["method"]]
        retrain = drift["networks"].get("retrain", {})
        target = f" (Retrain {number(retrain['auc_earlier'])})" if retrain else ""
        sentences.append(
            f"Earlier requests had this model forget {drift['earlier']:,} other examples, which "
            "took no part in anything here. On them its error is "
            f"{number(now['error_earlier'])} % and the loss attack's AUC "
            f"{number(now['auc_earlier'])}{target}."
        )
    return [*sentences, f"Entry {entry} of ledger.jsonl, SHA-256 {content.ledger['sha256']}."]


def _gap(content: ReportContent) -> str:
    gap = find_row(content, content.run["method"]).get("avg_gap")
    if not measured(gap):
        return ""
    text = (
        f"On average over four rates (UA, RA, TA and MIA) it is {number(gap)} points from Retrain"
    )
    floor = find_row(content, "retrain_2").get("avg_gap")
    original = find_row(content, "original").get("avg_gap")
    others = [f"a second Retrain is {number(floor)}"] if measured(floor) else []
    others += [f"the original model {number(original)}"] if measured(original) else []
    return f"{text}; {', '.join(others)}." if others else f"{text}."


def _utility(content: ReportContent) -> str:
    method = find_row(content, content.run["method"])
    base = "retrain" if find_row(content, "retrain") else "original"
    reference = find_row(content, base)
    parts = []
    for key, name in (
        ("ta", "test accuracy"),
        ("ra_inaccessible", "accuracy on the training examples to keep that the method never saw"),
    ):
        if measured(method.get(key)):
            beside = f" ({label(base)} {number(reference.get(key))} %)"
            parts.append(f"{name} {number(method[key])} %{beside}")
    return f"Utility: {', '.join(parts)}." if parts else ""


def backdoor(rows: Sequence[Mapping[str, Any]]) -> str:
    """How often a backdoor's trigger succeeds, for every model; empty where that is not known."""
    known = [row for row in rows if measured(row.get("attack_success"))]
    if not known:
        return ""
    listed = ", ".join(f"{label(row['model'])} {number(row['attack_success'])} %" for row in known)
    return f"The backdoor's trigger gives test inputs of other classes its target class: {listed}."


def over_unlearning(content: ReportContent) -> list[str]:
    """One sentence for UA and MIA each where the method overshot Retrain beyond chance.

    Chance is the larger of the second Retrain's gap and the 95 % half-width of the difference of
    two proportions over the forget set.
    """
    method, floor = find_row(content, content.run["method"]), find_row(content, "retrain_2")
    sentences = []
    for key, meaning in (
        ("ua", "it gets more of the forget set wrong than a model that never saw it"),
        ("mia", "more of the forget set looks unseen than for a model that never saw it"),
    ):
        gap = (method.get("gaps") or {}).get(key)
        if not measured(gap) or not measured(method.get(key)):
            continue
        noise = _half_width(method[key] - gap, content.run["sizes"]["forget"])
        floor_gap = (floor.get("gaps") or {}).get(key)
        if gap > max(noise, abs(floor_gap) if measured(floor_gap) else 0):
            sentences.append(
                f"Over-unlearning: {key.upper()} is {number(gap)} points above Retrain's; "
                f"{meaning}, which gives it away too."
            )
    return sentences


def _half_width(percent: float, count: int) -> float:
    """95 % half-width, in points, of the difference of two rates near `percent` over `count`."""
    rate = min(max(percent / 100, 0.0), 1.0)
    return 196 * math.sqrt(2 * rate * (1 - rate) / count)


def confidence(content: ReportContent) -> list[str]:
    """How sure the findings are: what chance alone does to them."""
    sentences, sizes = [], content.run["sizes"]
    if content.auc_band is not None:
        sentences.append(
            "Of 20 models that never saw the examples to unlearn, about 19 are inside the loss "
            "attack's band, and one is outside by chance (95 %)."
        )
    # At a rate of 50 %, where chance is largest; exact for no rate, too small for none.
    forget, test = (98 / math.sqrt(max(sizes[part], 1)) for part in ("forget", "test"))
    sentences.append(
        f"A rate on the {sizes['forget']:,} examples to unlearn is known to within "
        f"{number(forget)} points or better, one on the {sizes['test']:,} test examples to within "
        f"{number(test)} (95 %)."
    )
    if content.audit is not None:
        sentences.append(
            f"If unlearning were exact, the audit would raise a false alarm in at most "
            f"{number(100 * content.audit['alpha'])} % of cases, all tests that count together."
        )
    return sentences


def terms(content: ReportContent) -> list[tuple[str, str]]:
    """The words that a reader of the first page needs, each with its meaning."""
    meanings = {
        "Loss attack": "takes a low loss for a sign that a model was trained on an example.",
        "AUC": "how often that attack ranks a pair rightly, in percent; 50 is guessing.",
    }
    if find_row(content, "retrain"):
        meanings["Retrain"] = (
            "a model trained from scratch without the examples to unlearn. That is exact "
            "unlearning, so its values are the targets."
        )
    if find_row(content, "retrain_2"):
        meanings["Second Retrain"] = "the same from another seed: how far chance alone goes."
    return list(meanings.items())


def again(content: ReportContent) -> str:
    """What making the report again needs beside its command."""
    command = str(content.run["command"])
    start = (
        "The run was called from Python; run.json, beside this file, holds its settings. "
        if command.startswith("ltu_jax.")
        else ""
    )
    return (
        f"{start}The same data, seed, package versions and kind of device give the same numbers; "
        "all are below."
    )


def limits(content: ReportContent) -> list[str]:
    """What this report cannot say."""
    sentences = []
    if not find_row(content, "retrain"):
        sentences.append(
            "Nothing was retrained (--reference none), so the gaps to Retrain are unknown. Whether "
            "UA, RA, TA and MIA are too high, too low or right cannot be said: their targets are "
            "Retrain's values, not 0 and not 100. Run without --reference none to learn them."
        )
    elif not find_row(content, "retrain_2"):
        sentences.append(
            "There is no second Retrain, so how far two retrained models lie apart is unknown; a "
            "gap of a point or two may be chance."
        )
    sentences.append(
        "It is no proof and no guarantee. These attacks, on this many examples, found what is "
        "written here; a stronger attack may find more."
    )
    if content.auc_band is not None:
        low, high = content.auc_band
        sentences.append(
            f"A leak too small to move the loss attack's AUC by {number((high - low) / 2)} points "
            f"cannot be seen with {content.run['sizes']['forget']:,} examples to unlearn."
        )
    if content.auc_band is not None and content.request["kind"] == "ids":
        sentences.append(
            "The band of exact unlearning supposes that the ids are like a random draw from the "
            "training set. If they are not, Retrain's values are the target."
        )
    sentences += [
        "It is one run with one seed a model; intervals over seeds need several runs.",
        "It concerns the unlearned checkpoint alone: the data itself, the original checkpoint, "
        "its copies and whatever was derived from them are outside its reach.",
    ]
    return sentences
