"""The released SVC-MIA and threshold attacks, and other tools' readings of a ROC curve."""

import numpy as np
import pytest

from ltu_jax.audit import feature_attacks, roc
from tests.audit import golden

FEATURES = {
    "correctness": "correctness",
    "confidence": "confidence",
    "entropy": "entropy",
    "m_entropy": "modified_entropy",
    "prob": "probabilities",
}


@pytest.fixture(scope="module")
def svc():
    return golden.load("svc_mia")


@pytest.fixture(scope="module")
def readings():
    return golden.load("roc_tpr_at_fpr")


def svc_set(case, part):
    return feature_attacks.Labelled(case[f"logits_{part}"], case[f"labels_{part}"])


def keys_after(case, prefix):
    found = {key: key.removeprefix(prefix) for key in case if key.startswith(prefix)}
    assert found, f"no key {prefix}*"
    return found


def roc_cases(case):
    names = keys_after(case, "scores_").values()
    for name in names:
        scores, positive = case[f"scores_{name}"], case[f"labels_{name}"] == 1
        yield f"out_{name}_", scores[positive], scores[~positive]


@pytest.mark.parametrize("forget", ["forget", "forget_class"])
def test_svc_forget_efficacy(svc, forget):
    sets = [svc_set(svc, part) for part in ("shadow_train", "shadow_test", forget)]
    actual = feature_attacks.svc_mia_all(*sets, variant="salun-2024")
    # One example on the other side of the boundary is what float32 features can do.
    for key, name in keys_after(svc, f"out_{forget}_efficacy_").items():
        one = 100 / len(sets[2].labels)
        assert actual[FEATURES[name]] == pytest.approx(100 * svc[key], abs=one + 1e-9), name


def test_svc_training_privacy(svc):
    parts = ("shadow_train", "shadow_test", "target_train", "target_test")
    sets = [svc_set(svc, part) for part in parts]
    actual = feature_attacks.svc_training_privacy(*sets, variant="salun-2024")
    one = 50 / min(len(sets[2].labels), len(sets[3].labels))
    for key, name in keys_after(svc, "out_training_privacy_").items():
        assert actual[FEATURES[name]] == pytest.approx(100 * svc[key], abs=one + 1e-9), name


def test_svc_features(svc):
    released = {
        "entropy": ("entropy", "song-mittal"),
        "m_entropy_songmittal": ("modified_entropy", "song-mittal"),
        "m_entropy_asreleased": ("modified_entropy", "salun-2024"),
    }
    for key, rest in keys_after(svc, "feat_").items():
        name = next(ending for ending in sorted(released, key=len)[::-1] if rest.endswith(ending))
        feature, variant = released[name]
        data = svc_set(svc, rest.removesuffix(f"_{name}"))
        actual = feature_attacks.features(data, variant=variant)[feature]
        # The reference's 1 - p in float32 is off by 6e-8, which a value near 0 shows.
        np.testing.assert_allclose(actual, svc[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_threshold_attacks(svc):
    parts = ("shadow_train", "shadow_test", "target_train", "forget")
    sets = [svc_set(svc, part) for part in parts]
    actual = feature_attacks.threshold_attacks(*sets)
    one = 100 / np.array([len(sets[2].labels), len(sets[3].labels)])
    for key, name in keys_after(svc, "out_blackbox_").items():
        difference = np.abs(np.array(actual[FEATURES[name]]) - 100 * svc[key])
        assert (difference <= one + 1e-9).all(), name


def test_roc_curve(readings):
    for out, positive, negative in roc_cases(readings):
        fpr, tpr, thresholds = roc.curve(positive, negative)
        np.testing.assert_allclose(fpr, readings[out + "fpr_full"], atol=1e-12)
        np.testing.assert_allclose(tpr, readings[out + "tpr_full"], atol=1e-12)
        corners = [readings[out + name] for name in ("fpr", "tpr", "thr")]
        dropped = roc.curve(positive, negative, drop_intermediate=True)
        for actual, expected in zip(dropped, corners):
            np.testing.assert_allclose(actual, expected, atol=1e-12)
        assert set(corners[2]) <= set(thresholds)


def test_roc_areas(readings):
    for out, positive, negative in roc_cases(readings):
        assert roc.auc(positive, negative) == pytest.approx(readings[out + "auc"], abs=1e-12)
        area = np.trapezoid(*roc.hull(positive, negative)[::-1])
        assert area == pytest.approx(readings[out + "jaxprivacy_auroc_hull"], abs=1e-12)
        for key, level in keys_after(readings, out + "auc_max_fpr_").items():
            actual = roc.partial_auc(positive, negative, float(level))
            assert actual == pytest.approx(readings[key], abs=1e-12)


def test_roc_tpr_at_fpr(readings):
    """The levels are in the keys: `tpr1e-2_1e-3_0`, and `tpr_lt1e-3` for strictly below."""
    tools = {
        "privacymeter_tpr": "last",
        "art_tpr": "last",
        "lira_tpr_lt": "below",
        "nearest_tpr": "nearest",
        "jaxprivacy_tpr": "hull",
    }
    for out, positive, negative in roc_cases(readings):
        for tool, convention in tools.items():
            for key, levels in keys_after(readings, out + tool).items():
                actual = [
                    roc.tpr_at_fpr(positive, negative, float(level), convention).tpr
                    for level in levels.split("_")
                ]
                np.testing.assert_allclose(actual, readings[key], atol=1e-12, err_msg=key)


def test_roc_thresholds(readings):
    for out, positive, negative in roc_cases(readings):
        best = roc.best_balanced_accuracy(positive, negative)
        assert best == pytest.approx(readings[out + "balanced_acc_max"], abs=1e-12)
        for key, threshold in keys_after(readings, out + "acc_prec_rec_thr").items():
            actual = roc.decision(positive, negative, float(threshold))
            np.testing.assert_allclose(actual, readings[key], atol=1e-12)
