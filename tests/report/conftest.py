"""Made-up content that looks like a run on CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.report.content import ReportContent
from ltu_jax.report.figures import Picture, pictures
from ltu_jax.report.write import write_report
from tests.report.audit.made_up_audit import make_audit

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
VALUES = {  # ua, ra, ta, mia, auc, ks, seconds, ra_accessible, ra_inaccessible
    "original": (1.2, 98.8, 59.3, 3.4, 70.9, 46.0, 151.2, 98.8, 98.9),
    "retrain": (39.5, 98.3, 59.2, 45.8, 50.7, 7.3, 147.9, 98.3, 98.3),
    "retrain_2": (41.1, 97.8, 58.6, 47.5, 50.3, 2.5, 149.0, 97.6, 97.9),
    "ltu": (39.1, 96.3, 58.7, 44.1, 56.5, 17.0, 45.3, 97.0, 95.9),
}


def make_content(
    *,
    models=tuple(VALUES),
    ltu_auc: float = 56.5,
    num_classes: int = 10,
    auc_band=(47.9, 52.1),
    history: bool = True,
    seed: int = 0,
) -> ReportContent:
    """A whole report over `models`, which must hold `ltu`."""
    rng = np.random.default_rng(seed)
    names = CIFAR10 if num_classes == 10 else [f"class {i:03d}" for i in range(num_classes)]
    base = np.clip(rng.normal(59, 10, num_classes), 0, 100)
    accuracy = {m: np.clip(base + rng.normal(0, 2, num_classes), 0, 100) for m in models}
    return ReportContent(
        run={
            "data": "cifar10",
            "model": "cnn",
            "method": "ltu",
            "seeds": {"run": 0, "retrain_2": 1},
            "command": "ltu unlearn --data cifar10 --train-size 10000 --model cnn "
            "--forget-fraction 0.1 --method ltu --retain-fraction 0.3 --seed 0 --out runs/cifar10",
            "sizes": {
                "train": 10_000,
                "forget": 1_000,
                "retain": 9_000,
                "accessible": 2_700,
                "validation": 3_000,
                "test": 7_000,
            },
        },
        request={"type": "fraction", "fraction": 0.1, "seed": 0},
        rows=_rows(models, ltu_auc),
        config={
            "epochs": 20,
            "batch_size": 128,
            "learning_rate": 0.05,
            "ltu": {
                "order": 2,
                "num_queries": 3,
                "harmonize": "two-way",
                "query_sampling": "uniform",
            },
        },
        versions={"python": "3.11.2", "jax": "0.10.2", "device": "1 x cpu (cpu)"},
        attacks=[
            {
                "name": "SVC-MIA (confidence)",
                "data": "retain and test examples",
                "shares_features": True,
                "shares_data": False,
                "sentence": "The number papers print; a population attack, kept for comparison.",
            },
            {
                "name": "Loss attack",
                "data": "forget and test examples",
                "shares_features": False,
                "shares_data": False,
                "sentence": "Ranks examples by their loss; nothing is fitted.",
            },
        ],
        signals={row["model"]: _signals(rng, row["auc"]) for row in _rows(models, ltu_auc)},
        class_accuracy=accuracy,
        class_names=names,
        history=_history(rng) if history else {},
        auc_band=auc_band,
    )


def _rows(models, ltu_auc):
    rows = []
    for model in models:
        values = dict(
            zip(
                (*GAP_METRICS, "auc", "ks", "seconds", "ra_accessible", "ra_inaccessible"),
                VALUES[model],
                strict=True,
            )
        )
        target = dict(zip(GAP_METRICS, VALUES["retrain"], strict=False))
        gaps = {k: values[k] - target[k] if "retrain" in models else None for k in GAP_METRICS}
        average = float(np.mean([abs(g) for g in gaps.values()])) if "retrain" in models else None
        rows.append({"model": model, **values, "avg_gap": average, "gaps": gaps})
        if model == "ltu":
            rows[-1]["auc"] = ltu_auc
    return rows


def _signals(rng, auc):
    """Two normal samples of log-odds whose means lie apart as the AUC says."""

    def confidence(count, centre):
        return 1 / (1 + np.exp(-rng.normal(centre, 2.5, count)))

    apart = 2.5 * np.sqrt(2) * norm.ppf(auc / 100)
    forget, test = confidence(1_000, 0.6 + apart), confidence(7_000, 0.6)
    return {
        "forget_confidence": forget,
        "test_confidence": test,
        "forget_loss": -np.log(forget),
        "test_loss": -np.log(test),
    }


def _history(rng, steps=400):
    decay = np.exp(-np.arange(steps) / 60)
    cosine = np.clip(rng.normal(-0.25, 0.22, steps), -1, 1)
    return {
        "step": list(range(1, steps + 1)),
        "loss_random_label": list(11 - 6 * decay + rng.normal(0, 0.6, steps)),
        "loss_remember": list(0.5 + 0.6 * decay + rng.normal(0, 0.06, steps)),
        "loss_forget": list(0.15 + 0.9 * decay + np.abs(rng.normal(0, 0.05, steps))),
        "cosine": list(cosine),
        "conflict": list((cosine < 0).astype(float)),
    }


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return make_content()


@pytest.fixture
def audit() -> dict:
    """An audit with all parts, in which nothing is found of what is found before unlearning."""
    return make_audit()


@pytest.fixture(scope="session")
def drawn(content) -> list[Picture]:
    return pictures(content)


@pytest.fixture(scope="session")
def page(content, tmp_path_factory) -> Path:
    """The path of a written report.html."""
    return write_report(content, tmp_path_factory.mktemp("report") / "new")
