"""A made-up audit with all parts, as `auditing.audit_run` would return it."""

SHARES = "features: outputs on the example itself"


def _bound(epsilon=0.0, certifiable=4.1, detectable=0.42):
    return {"epsilon": epsilon, "certifiable": certifiable, "detectable": detectable}


def attack(auc, p_value, detectable=0.42):
    """What one attack on single examples found."""
    return {
        "auc": auc,
        "auc_interval": [auc - 1.3, auc + 1.3],
        **{"tpr_1": 2.3, "tpr_01": 0.4, "negatives": 12_800},
        **{"worst_1": auc + 9.0, "worst_5": auc + 5.0, "guess_accuracy": 51.5, "guesses": 50},
        "p_value": p_value,
        "one_run": _bound(0.31, 4.2, 0.9),
        "group": _bound(1.7, 31.4, 2.9),
        "bound": _bound(0.0, 8.1, detectable),
        "swap": 3.2,
    }


def _distinguishing(auc, p_value, shift, shift_p):
    return {
        **{"auc": auc, "p_value": p_value, "bound": _bound(0.0, 2.1, None), "models": 32},
        **{"shift": shift, "shift_p": shift_p},
        "klom": {
            **{"mean": 0.41, "worst_1": 3.07, "worst_5": 2.02, "p_value": 0.04},
            **{"floor": 0.33, "floor_95": 0.36},
        },
    }


def _parts(*values):
    return {
        part: {"margin": _distinguishing(*value), "noisy": _distinguishing(*value)}
        for part, value in zip(("forget", "retain", "test"), values, strict=True)
    }


def counted_test(name, p_value, adjusted=None, *, finding="AUC 50.4 %", **bound):
    """One test of an audit; without `adjusted` it shares features and does not count."""
    shares = "" if adjusted is not None else SHARES
    values = {"name": name, "shares": shares, "p_value": p_value, "finding": finding}
    return {**values, "bound": _bound(**bound), "adjusted": adjusted}


def _population(model, value):
    keys = ("correctness", "confidence", "entropy", "modified_entropy", "probabilities")
    return {
        "model": model,
        **{f"svc_{key}": value for key in keys},
        **{"loss_auc": value, "loss_auc_interval": [value - 2.0, value + 2.0]},
        **{"loss_tpr_1": 1.1, "loss_tpr_01": 0.2, "negatives": 7_000},
        **{"loss_logistic": None, "supervised": value, "two_model": value + 20},
        "thresholds": {"confidence": 47.7},
    }


def make_audit():
    """An audit with all parts, in which nothing is found of what is found before unlearning."""
    names = ("u_lira", "rmia", "u_lira_noisy")
    return {
        "alpha": 0.05,
        "command": "ltu audit runs/one --ensembles runs/ensembles",
        "population": [_population(m, v) for m, v in (("original", 3.4), ("retrain", 45.8))]
        + [_population("retrain_2", 47.5), _population("ltu", 44.1)],
        "ensembles": {"retrain": {"models": 64, "seconds": 190.0, "folder": "retrain-64-ab12"}},
        "distinguishing": {
            "original": _parts((99.0, 1e-6, 4.0, 1e-9), (50.0, 0.5, 0.2, 0.4), (50.0, 0.5, 0, 0.9)),
            "unlearned": _parts((55.0, 0.3, 0.1, 0.6), (51.0, 0.4, 0.1, 0.6), (51.0, 0.4, 0, 0.9)),
            "retrain": _parts((50.0, 0.5, 0, 0.8), (50.0, 0.5, 0, 0.8), (50.0, 0.5, 0, 0.8)),
        },
        "per_example": {
            "shadow": {name: attack(71.0, 1e-9) for name in names},
            "shadow_unlearned": {name: attack(50.4, 0.31) for name in names},
            "shadow_retrain": {name: attack(50.1, 0.45) for name in names},
        },
        "tests": [
            counted_test("U-LiRA", 0.2),
            counted_test("RMIA", 0.4),
            counted_test("U-LiRA on noisy copies", 0.155, 0.31),
            counted_test("distinguishing attack", 0.3),
            counted_test("distinguishing attack on noisy copies", 0.2, 0.31, detectable=None),
        ],
    }
