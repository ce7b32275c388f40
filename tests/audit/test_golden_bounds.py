"""Epsilon bounds against runs of jax-privacy, tensorflow-privacy, privacy_meter, the challenge."""

import numpy as np
import pytest

from ltu_jax.audit import challenge, epsilon, one_run, ratio_bounds
from tests.audit.golden import load

ALPHA = 0.05  # of every run of jax-privacy here


def _bounds_samples(case):
    """Yield the name and both samples of every pair of samples in a case."""
    for key in case:
        if key.startswith("inp_in_"):
            name = key.removeprefix("inp_in_")
            yield name, case[key], case[f"inp_out_{name}"]


def _bounds_outputs(case, name, what):
    """Yield the words of the key after `what`, and the value, of every such output."""
    prefix = f"out_{name}_{what}"
    for key in case:
        if key.startswith(prefix):
            yield key.removeprefix(prefix).split("_"), float(case[key])


def _bounds_options(delta, one_sided):
    return {"delta": float(delta.removeprefix("d")), "mirror": one_sided == "os0"}


def test_clopper_pearson_epsilons_as_jax_privacy():
    case, compared = load("jaxprivacy_auditor"), 0
    for name, positive, negative in _bounds_samples(case):
        for (delta, sides), expected in _bounds_outputs(case, name, "epscp_bonf_"):
            options = _bounds_options(delta, sides)
            bound = epsilon.epsilon_lower_bound(positive, negative, rule="bonferroni", **options)
            assert bound.epsilon == pytest.approx(expected, abs=1e-6)
            compared += 1
        for (threshold, *rest), expected in _bounds_outputs(case, name, "epscp_explicit"):
            bound = epsilon.epsilon_lower_bound(
                positive,
                negative,
                rule="threshold",
                threshold=float(threshold),
                **_bounds_options(*rest),
            )
            assert bound.epsilon == pytest.approx(expected, abs=1e-6)
            compared += 1
        for (count, *rest), expected in _bounds_outputs(case, name, "epsraw_mc"):
            raw = ratio_bounds.raw_epsilon(
                positive, negative, min_count=int(count), **_bounds_options(*rest)
            )
            assert raw == pytest.approx(expected, abs=1e-6)
            compared += 1
    assert compared


def test_gdp_epsilons_as_jax_privacy():
    """The released code takes |mu|; it must agree wherever the mended code gives the same."""
    case, compared = load("jaxprivacy_auditor"), 0
    for name, positive, negative in _bounds_samples(case):
        mu = epsilon.gdp_mu_lower_bound(positive, negative, alpha=ALPHA)
        for (delta,), released in _bounds_outputs(case, name, "epsgdp_d"):
            mended = case.get(f"outHEAD_{name}_epsgdp_d{delta}")
            if mended is not None:
                actual = epsilon.gdp_epsilon(mu, float(delta))
                assert actual == pytest.approx(float(mended), abs=1e-6)
                assert actual <= released + 1e-6
                compared += 1
    assert compared


def test_hull_as_jax_privacy():
    case = load("jaxprivacy_auditor")
    for name, positive, negative in _bounds_samples(case):
        fp, tp = epsilon.roc_hull(positive, negative)
        fpr, tpr = fp / len(negative), tp / len(positive)
        assert np.trapezoid(tpr, fpr) == pytest.approx(float(case[f"out_{name}_auroc"]), abs=1e-9)
        at_fpr = np.interp(case["fpr_grid"], fpr, tpr)
        np.testing.assert_allclose(at_fpr, case[f"out_{name}_tpr_at_fpr"], atol=1e-9)
        share = len(positive) / (len(positive) + len(negative))
        accuracy = np.max(share * tpr + (1 - share) * (1 - fpr))
        assert accuracy == pytest.approx(float(case[f"out_{name}_maxacc"]), abs=1e-9)


def test_one_run_epsilons_of_scores_as_jax_privacy():
    """There every score above a threshold is a guess of "in", and Bonferroni pays for the hull."""
    case = load("jaxprivacy_auditor")
    forms = {
        "": lambda m, r, v, alpha: one_run.one_run_bound(m, r, v, alpha=alpha, delta=1e-5).epsilon,
        "fdp_": lambda m, r, v, alpha: one_run.fdp_epsilon(m, r, v, alpha=alpha, delta=1e-5),
    }
    for name, positive, negative in _bounds_samples(case):
        m = len(positive) + len(negative)
        fp, tp = epsilon.roc_hull(positive, negative)
        for form, bound in forms.items():
            best = max(
                bound(m, int(right + wrong), int(right), ALPHA / len(tp))
                for right, wrong in zip(tp[1:], fp[1:])
            )
            expected = float(case[f"out_{name}_eps_onerun_{form}d1e-5"])
            assert best == pytest.approx(expected, abs=1e-4)
            for (threshold, _), expected in _bounds_outputs(
                case, name, f"eps_onerun_{form}explicit"
            ):
                right, wrong = (int(np.sum(s >= float(threshold))) for s in (positive, negative))
                actual = bound(m, right + wrong, right, ALPHA)
                assert actual == pytest.approx(expected, abs=1e-4)


def test_ratio_bounds_as_tensorflow_privacy():
    case, compared = load("tfp_epsilon_lower_bound"), 0
    positive, negative, alpha = case["pos_scores"], case["neg_scores"], float(case["alpha"])
    for key, expected in case.items():
        if key.startswith("out_ts"):
            flipped, method = key.removeprefix("out_ts").split("_")
            actual = ratio_bounds.ratio_epsilons(
                positive, negative, method=method, alpha=alpha, flipped=flipped == "1"
            )[: len(expected)]
        elif key.startswith("out_ratio_"):
            sizes = len(positive), len(negative)
            method = key.removeprefix("out_ratio_")
            actual = ratio_bounds.ratio_bound(
                case["tp"], case["fp"], *sizes, method=method, alpha=alpha
            )
        else:
            continue
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
        compared += 1
    assert compared


def test_one_run_as_privacy_meter_and_jax_privacy():
    case = load("one_run_and_gdp")
    for row, (m, r, v, delta, alpha) in enumerate(case["m_r_v_delta_p"]):
        counts = int(m), int(r), int(v)
        bound = one_run.one_run_bound(*counts, alpha=alpha, delta=delta).epsilon
        fdp = one_run.fdp_epsilon(*counts, alpha=alpha, delta=max(delta, 1e-6))
        for actual, tool in (
            (bound, "privacymeter"),
            (bound, "jaxprivacy"),
            (fdp, "fdp_jaxprivacy_delta_min1e_6"),
        ):
            assert actual == pytest.approx(case[f"out_eps_{tool}"][row], abs=1e-4)
        p_values = [
            one_run.p_value(*counts, epsilon=value, delta=delta) for value in case["p_eps_grid"]
        ]
        for tool in ("privacymeter", "jaxprivacy"):
            np.testing.assert_allclose(
                p_values, case[f"out_pvalue_{tool}"][row], rtol=0, atol=1e-10
            )


def test_gdp_as_dp_accounting():
    case = load("one_run_and_gdp")
    for mu, delta, given, expected, expected_mu in zip(
        *(case[key] for key in ("gdp_mu", "gdp_delta", "gdp_eps_in")),
        case["out_gdp_eps"],
        case["out_gdp_mu_from_eps"],
    ):
        assert epsilon.gdp_epsilon(mu, delta) == pytest.approx(expected, abs=1e-6)
        assert epsilon.gdp_mu(given, delta) == pytest.approx(expected_mu, abs=1e-6)


def test_forget_score_as_the_challenge():
    case = load("challenge_epsilon")
    confidences = case["unlearned_confs"], case["retrained_confs"]
    actual = challenge.epsilons(*confidences, delta=float(case["delta"]))
    np.testing.assert_allclose(actual, case["out_epsilons"], atol=1e-6, rtol=0)
    expected = pytest.approx(float(case["out_forget_score"]), abs=1e-9)
    assert challenge.forget_score(*confidences) == expected
    scaled = challenge.logit_scaled_confidence(case["logits"], case["labels"])
    np.testing.assert_allclose(scaled, case["out_logit_scaled_conf"], atol=1e-6)
