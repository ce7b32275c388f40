"""The findings of an audit, and what it leaves open, as sentences.

A test that does not reject exact unlearning has found nothing. What that means depends on its
power, which each sentence states. `audit` is the result of `runs.audit_run`, `method` the method's
label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltu_jax.report.content import measured, number
from ltu_jax.report.verdict import Verdict

Audit = Mapping[str, Any]

ATTACKS = {"u_lira": "U-LiRA", "rmia": "RMIA", "u_lira_noisy": "U-LiRA on noisy copies"}
DISTINGUISHING = {
    "margin": "distinguishing attack",
    "noisy": "distinguishing attack on noisy copies",
}
PARTS = {"forget": "forget set", "retain": "retain set", "test": "test data"}
BOUNDS = (
    "A lower bound: at least this much leaks, each with its own confidence of 1 - alpha; 0 is no "
    "evidence of a leak.",
    "Largest certifiable: the bound that an attack without a mistake would have given.",
    "Smallest detectable: from this epsilon on, the best attack gives evidence in 80 % of cases.",
    "One model: on single examples, from one unlearned model, the median one of the ensemble.",
    "All models: the same from the predictions on all models together.",
    "The forget set as a group: on the request as a whole, from one model. This epsilon may be "
    "large where that of one example is small.",
    "Distinguishing attack: unlearned against retrained models. Every difference counts, damage "
    "too.",
)
_SUBJECTS = {
    DISTINGUISHING["margin"]: "The distinguishing attack on models",
    DISTINGUISHING["noisy"]: "The distinguishing attack on models by noisy copies",
}
_SHIFTS = {  # the name of a margin below that of retrained models, above it, and of neither
    "forget": ("Over-unlearned", "Under-unlearned", "Neither over- nor under-unlearning seen"),
    "retain": ("Damage", "No damage but a difference", "No damage seen"),
    "test": ("Damage", "No damage but a difference", "No damage seen"),
}
_MAKE = "make ensembles of the types"


def verdicts(audit: Audit, method: str) -> list[str]:
    """Return all sentences on an audit: the summary, one per test, then other findings."""
    return [
        summary(audit, method).sentence,
        *tests(audit),
        *floors(audit),
        *shifts(audit),
        *missing(audit),
    ]


def summary(audit: Audit, method: str) -> Verdict:
    """Return the joint verdict of the tests that count.

    The level is `outside` where one of them rejects exact unlearning and `inside` where none does;
    `powerless` where none of them could have, `relative` where only a test that does not count
    found a trace, `unknown` where no test counts.
    """
    counted = [test for test in audit["tests"] if not test["shares"]]
    others = [test["name"] for test in audit["tests"] if test["shares"] and _found(test, audit)]
    also = f" Tests that do not count did find a trace: {', '.join(others)}."
    level, sentence = _counted_together(counted, audit, method)
    if not others:
        return Verdict(level, sentence)
    return Verdict(level if level == "outside" else "relative", sentence + also)


def _counted_together(counted: list[Mapping], audit: Audit, method: str) -> tuple[str, str]:
    if not counted:
        return "unknown", f"No test that counts was made of exact unlearning by {method}."
    rejecting = sum(_found(test, audit) for test in counted)
    blind = sum(bool(_blindness(test, audit)) for test in counted)
    of_all = f"of {len(counted)} counted tests"
    level = f"at alpha = {audit['alpha']:g}, Holm-corrected"
    if rejecting:
        return "outside", (
            f"Exact unlearning is rejected for {method}: {rejecting} {of_all} found a trace "
            f"({level})."
        )
    sentence = (
        f"Exact unlearning cannot be rejected for {method}: none {of_all} found a trace ({level}). "
        "That does not prove it."
    )
    if blind == len(counted):
        return "powerless", f"{sentence} None would have found one before unlearning either."
    if blind:
        sentence += f" {blind} of them would have found none before unlearning either."
    return "inside", sentence


def tests(audit: Audit) -> list[str]:
    """Return one sentence per test, those that count first."""
    ordered = sorted(audit["tests"], key=lambda test: bool(test["shares"]))
    return [(_sharing if test["shares"] else _counted)(test, audit) for test in ordered]


def _counted(test: Mapping[str, Any], audit: Audit) -> str:
    subject, bound = _SUBJECTS.get(test["name"], test["name"]), test["bound"]
    level = f"exact unlearning at alpha = {audit['alpha']:g}"
    numbers = f"(Holm-adjusted {chance(test['adjusted'])}, {test['finding']})"
    if _found(test, audit):
        epsilon = bound.get("epsilon") or 0
        leak = f" A lower bound on the leak: epsilon >= {nats(epsilon)}." if epsilon > 0 else ""
        return f"{subject} rejects {level} {numbers}: it finds a trace.{leak}"
    reach = (
        f"it would have seen epsilon >= {nats(bound['detectable'])}"
        if measured(bound.get("detectable"))
        else "with so few models no leak of any size is certain to be seen"
    )
    return f"{subject} cannot reject {level} {numbers}; {reach}.{_blindness(test, audit)}"


def _sharing(test: Mapping[str, Any], audit: Audit) -> str:
    subject = _SUBJECTS.get(test["name"], test["name"])
    numbers = f"{test['finding']}, {chance(test['p_value'])}, not corrected"
    common = (
        f"{subject} uses the signals of the method's membership models ({test['shares']}), so it "
        "cannot count in the method's favour"
    )
    if _found(test, audit):
        return f"{common}; it counts against it: it finds a trace ({numbers})."
    return f"{common}; it found no trace ({numbers}).{_blindness(test, audit)}"


def _found(test: Mapping[str, Any], audit: Audit) -> bool:
    """Whether a test found a trace: after Holm's correction, if it counts."""
    return _below(test["p_value" if test["shares"] else "adjusted"], audit["alpha"])


def _blindness(test: Mapping[str, Any], audit: Audit) -> str:
    """Return that a test has no power here; empty if it has or this is unknown."""
    attack = {title: name for name, title in ATTACKS.items()}.get(test["name"])
    signal = {title: name for name, title in DISTINGUISHING.items()}.get(test["name"])
    before = audit["per_example"].get("shadow", {}).get(attack, {})
    low, high = before.get("auc_interval") or (None, None)
    if measured(low) and low <= 50:
        return (
            f" It could not find the examples before unlearning either (AUC {number(before['auc'])}"
            f" %, interval {number(low)} to {number(high)}), so a result without a finding means "
            "nothing."
        )
    original = audit["distinguishing"].get("original", {}).get("forget", {}).get(signal, {})
    if measured(original.get("p_value")) and not _below(original["p_value"], audit["alpha"]):
        return (
            " It could not distinguish original from retrained models either "
            f"({chance(original['p_value'])}), so a result without a finding means nothing."
        )
    return ""


def floors(audit: Audit) -> list[str]:
    """Return a sentence for every attack that finds examples in models that never saw them."""
    floor = audit["per_example"].get("shadow_retrain", {})
    return [
        f"Do not trust {ATTACKS[name]} here: it finds the examples in models that never saw any of "
        f"them (AUC {number(found['auc'])} %, {chance(found['p_value'])})."
        for name, found in floor.items()
        if _below(found["p_value"], audit["alpha"] / len(floor))
    ]


def shifts(audit: Audit) -> list[str]:
    """Return one sentence per part of the data: its margins against those of retrained models.

    Two-sided: a lower margin is over-unlearning on the forget set and damage elsewhere.
    """
    unlearned = audit["distinguishing"].get("unlearned", {})
    found = {part: unlearned[part]["margin"] for part in PARTS if part in unlearned}
    return [
        _shift(part, values["shift"], values["shift_p"], audit["alpha"])
        for part, values in found.items()
        if measured(values["shift"]) and measured(values["shift_p"])
    ]


def _shift(part: str, shift: float, p_value: float, alpha: float) -> str:
    lower, higher, neither = _SHIFTS[part]
    differs = _below(p_value, alpha)
    head = (lower if shift < 0 else higher) if differs else neither
    over = differs and part == "forget" and shift < 0
    tail = ": higher losses than unseen data, which is a trace too" if over else ""
    return (
        f"{head}: on the {PARTS[part]} the mean margin is {number(abs(shift))} standard deviations "
        f"{'below' if shift < 0 else 'above'} that of retrained models "
        f"({chance(p_value)}, not corrected){tail}."
    )


def missing(audit: Audit) -> list[str]:
    """Return what is unknown without more ensembles, and which ensembles would show it."""
    per_example, distinguishing = audit["per_example"], audit["distinguishing"]
    sentences = [f"Left out: {sentence}" for sentence in audit.get("left_out", ())]
    if not per_example and not distinguishing:
        how = "Add ensembles to the file" if sentences else "Make ensembles (ltu ensemble)"
        return [
            *sentences,
            "Without ensembles nothing is known about single examples, nor a lower bound on the "
            f"leak. {how}, then audit again.",
        ]
    if "shadow_unlearned" not in per_example:
        sentences.append(
            "Whether attacks find single examples after unlearning (U-LiRA, RMIA) is unknown. "
            f"Unless the request is a whole class, {_MAKE} shadow_unlearned and shadow_retrain."
        )
    else:
        if "shadow" not in per_example:
            sentences.append(
                "Whether the attacks found the examples before unlearning is unknown, and with it "
                f"their power: {_MAKE} shadow."
            )
        if "shadow_retrain" not in per_example:
            sentences.append(
                "What the attacks find in models that never saw the examples, their floor, is "
                f"unknown: {_MAKE} shadow_retrain."
            )
    if "unlearned" not in distinguishing:
        sentences.append(
            "Whether unlearned models differ from retrained ones, by over-unlearning or damage, is "
            f"unknown: {_MAKE} retrain and unlearned."
        )
    elif "original" not in distinguishing:
        sentences.append(
            "Whether original models can be distinguished from retrained ones, the power of that "
            f"test, is unknown: {_MAKE} original."
        )
    return sentences


def chance(p_value: Any) -> str:
    """Return a p-value as text; a dash where there is none."""
    if measured(p_value) and p_value < 0.001:
        return "p < 0.001"
    return f"p = {number(p_value, 2 if measured(p_value) and p_value >= 0.1 else 3)}"


def nats(epsilon: Any) -> str:
    """Return an epsilon as text, with two digits below 1; a dash where there is none."""
    return number(epsilon, 2 if measured(epsilon) and 0 < epsilon < 1 else 1)


def _below(p_value: Any, level: float) -> bool:
    return measured(p_value) and p_value < level
