"""The headline of a report: what the average gap and the loss attack show.

Both are compared with models that were retrained on the request itself, never with what a random
draw would give. The same rows therefore have the same headline, whether they were requested by ids,
by group, by class or by fraction.
"""

from __future__ import annotations

from typing import NamedTuple

from ltu_jax.report.content import ReportContent, find_row, label, measured, number, signed
from ltu_jax.report.noise import floors, gap_of


class Verdict(NamedTuple):
    """A finding.

    Attributes:
      level: `inside` where the unlearned model is within the noise of retrained ones, `outside`
        where it is not; `powerless` where the original model is within it too, so that nothing can
        be seen; `relative` where one model was retrained, so that its noise is unknown; `unknown`
        where there is nothing to compare with.
      sentence: the finding in words.
    """

    level: str
    sentence: str


_HEADS = {
    "outside": "Not like a retrained model.",
    "inside": "Within the noise of retraining.",
    "powerless": "Cannot tell: nothing here shows whether the forget set was unlearned.",
    "relative": "Cannot tell: there is no second Retrain, so the noise is unknown.",
    "unknown": "Cannot tell: no model was retrained, so there is nothing to compare with.",
}


_OWN = "within it, so the difference comes from unlearning itself"


def verdict(content: ReportContent) -> Verdict:
    """Return the headline: its level, the error on the forget set, average gap and loss attack.

    The level is `outside` if one of the two is, else `inside` if one of them is, else `powerless`
    or what is missing.
    """
    findings = [average_gap(content), loss_attack(content)]
    levels = [finding.level for finding in findings]
    level = next(name for name in _HEADS if name in levels)
    parts = [_HEADS[level], forget_error(content), *(one.sentence for one in findings)]
    return Verdict(level, " ".join(filter(None, parts)))


def forget_error(content: ReportContent) -> str:
    """Return the error on the forget set before and after, next to Retrain's."""
    names = ("original", content.run["method"], "retrain")
    known = [row for row in (find_row(content, name) for name in names) if measured(row.get("ua"))]
    listed = ", ".join(f"{label(row['model'])} {number(row['ua'])} %" for row in known)
    return f"Error on the forget set: {listed}." if known else ""


def average_gap(content: ReportContent) -> Verdict:
    """Return the finding of the average gap over UA, RA, TA and MIA."""
    gap = gap_of(find_row(content, content.run["method"]), "avg_gap")
    floor = floors(content).get("avg_gap")
    if gap is None or floor is None:
        return Verdict("unknown", "")
    original = gap_of(find_row(content, "original"), "avg_gap")
    text = f"The average gap to Retrain is {number(gap)} percentage points"
    before = "" if original is None else f"; the original model's is {number(original)}"
    if floor.second is None:
        return Verdict("relative", f"{text}{before}.")
    noise = f"the noise floor of {number(floor.value)}"
    if gap > floor.value:
        cause = "" if original is None or original > floor.value else f", {_OWN}"
        return Verdict("outside", f"{text}, above {noise}{before}{cause}.")
    if original is None or original > floor.value:
        return Verdict("inside", f"{text}, within {noise}{before}.")
    return Verdict(
        "powerless",
        f"{text} and the original model's {number(original)}: both are within {noise}, so this "
        "metric cannot show forgetting here.",
    )


def loss_attack(content: ReportContent) -> Verdict:
    """Return the finding of the loss attack's AUC."""
    name = label(content.run["method"])
    auc = find_row(content, content.run["method"]).get("auc")
    retrain = find_row(content, "retrain").get("auc")
    if not measured(auc):
        return Verdict("unknown", "The loss attack was not measured on the unlearned model.")
    text = f"The loss attack's AUC is {number(auc)}"
    if not measured(retrain):
        return Verdict("unknown", f"{text}; without Retrain it has no target.")
    if content.auc_band is None:
        gap = f"{signed(auc - retrain)} percentage points from Retrain's {number(retrain)}"
        return Verdict("relative", f"{text}, {gap}.")
    low, high = content.auc_band
    original = find_row(content, "original").get("auc")
    span = f"the {number(low)} to {number(high)} of retrained models"
    before = f"; the original model's is {number(original)}" if measured(original) else ""
    blind = measured(original) and low <= original <= high
    if not low <= auc <= high:
        where, how = ("above", "under") if auc > high else ("below", "over")
        cause = f"{before}, {_OWN}" if blind else f"{before}: {name} is {how}-unlearned"
        return Verdict("outside", f"{text}, {where} {span}{cause}.")
    if blind:
        return Verdict(
            "powerless",
            f"{text} and the original model's {number(original)}: both are within {span}, so this "
            "attack cannot show forgetting here.",
        )
    return Verdict("inside", f"{text}, within {span}{before}.")
