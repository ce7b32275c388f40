"""Outputs of eight other tools, reproduced; see `golden`."""

import numpy as np
import pytest

from ltu_jax.audit import distances, epsilon, features, lira, one_run, rmia, roc, signals
from ltu_jax.audit.reproductions import challenge, ratio_bounds
from ltu_jax.errors import InputError
from tests.audit import golden

# SVC-MIA, threshold attacks and readings of a ROC curve

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
    return features.LabelledLogits(case[f"logits_{part}"], case[f"labels_{part}"])


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
    actual = features.svc_mia_by_feature(*sets, variant="salun-2024")
    # One example on the other side of the boundary is what float32 features can do.
    for key, name in keys_after(svc, f"out_{forget}_efficacy_").items():
        one = 100 / len(sets[2].labels)
        assert actual[FEATURES[name]] == pytest.approx(100 * svc[key], abs=one + 1e-9), name


def test_svc_training_privacy(svc):
    parts = ("shadow_train", "shadow_test", "target_train", "target_test")
    sets = [svc_set(svc, part) for part in parts]
    actual = features.svc_training_privacy(*sets, variant="salun-2024")
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
        actual = features.prediction_features(data, variant=variant)[feature]
        # The reference's 1 - p in float32 is off by 6e-8, which a value near 0 shows.
        np.testing.assert_allclose(actual, svc[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_threshold_attacks(svc):
    parts = ("shadow_train", "shadow_test", "target_train", "forget")
    sets = [svc_set(svc, part) for part in parts]
    actual = features.threshold_attacks(*sets)
    one = 100 / np.array([len(sets[2].labels), len(sets[3].labels)])
    for key, name in keys_after(svc, "out_blackbox_").items():
        difference = np.abs(np.array(actual[FEATURES[name]]) - 100 * svc[key])
        assert (difference <= one + 1e-9).all(), name


def test_roc_curve(readings):
    for out, positive, negative in roc_cases(readings):
        fpr, tpr, thresholds = roc.roc_curve(positive, negative)
        np.testing.assert_allclose(fpr, readings[out + "fpr_full"], atol=1e-12)
        np.testing.assert_allclose(tpr, readings[out + "tpr_full"], atol=1e-12)
        corners = [readings[out + name] for name in ("fpr", "tpr", "thr")]
        dropped = roc.roc_curve(positive, negative, drop_intermediate=True)
        for actual, expected in zip(dropped, corners):
            np.testing.assert_allclose(actual, expected, atol=1e-12)
        assert set(corners[2]) <= set(thresholds)


def test_roc_areas(readings):
    for out, positive, negative in roc_cases(readings):
        assert roc.roc_auc(positive, negative) == pytest.approx(readings[out + "auc"], abs=1e-12)
        fp, tp = roc.roc_hull(positive, negative)
        area = np.trapezoid(tp / len(positive), fp / len(negative))
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
            actual = roc.decide(positive, negative, float(threshold))
            np.testing.assert_allclose(actual, readings[key], atol=1e-12)


# LiRA, RMIA and KLoM


@pytest.fixture(scope="module")
def lira_case():
    return golden.load("lira")


@pytest.fixture(scope="module")
def rmia_case():
    return golden.load("rmia")


@pytest.fixture(scope="module")
def klom_case():
    return golden.load("klom")


def per_example_keys(case, start, end=""):
    found = {
        key: key.removeprefix(start).removesuffix(end)
        for key in case
        if key.startswith(start) and key.endswith(end)
    }
    assert found, f"no key {start}*{end}"
    return found


def assert_close(actual, expected, tolerance, key=""):
    # Scores of references without any spread are as large as 1e60, and right to 12 digits.
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=tolerance, err_msg=key)


def lira_released(case, num_targets, variant):
    """Scores of the last models, judged by all others; as the file has them, lower = member."""
    attack = {"offline": "offline_two_sided"}.get(variant.split("_")[0], variant.split("_")[0])
    keep, phi = case["keep"], case["scores"]
    scores = [
        lira.released_lira_scores(
            target,
            phi[:-num_targets],
            keep[:-num_targets],
            attack=attack,
            fixed_variance=variant.endswith("fixvar"),
        )
        for target in phi[-num_targets:]
    ]
    return np.concatenate(scores)


def test_lira_signals(lira_case):
    logits, labels = lira_case["logits"].astype(np.float64), lira_case["labels"]
    for query in range(logits.shape[2]):
        phi = [signals.margin(one[:, query], labels) for one in logits]
        assert_close(phi, lira_case["scores"][..., query], 1e-6)
    confidence = signals.confidence(logits[-1, :, 0], labels)
    assert_close(confidence, lira_case["out_tfp_stat_conf_with_prob"], 1e-6)


def test_lira_released(lira_case):
    for key, name in per_example_keys(lira_case, "out_nt", "_prediction").items():
        num_targets, variant = name.split("_", 1)
        scores = lira_released(lira_case, int(num_targets), variant)
        assert_close(-scores, lira_case[key], 1e-6, key)


def test_lira_released_rates(lira_case):
    """AUC, best balanced accuracy, and TPR strictly below the FPR in the key."""
    for key, name in per_example_keys(lira_case, "out_nt").items():
        if "_auc_acc_tpr" not in name:
            continue
        number, rest = name.split("_", 1)
        variant, level = rest.split("_auc_acc_tpr")
        scores = lira_released(lira_case, int(number), variant)
        member = lira_case["keep"][-int(number) :].ravel()
        sides = scores[member], scores[~member]
        actual = (
            roc.roc_auc(*sides),
            roc.best_balanced_accuracy(*sides),
            roc.tpr_at_fpr(*sides, float(level), "below").tpr,
        )
        assert_close(actual, lira_case[key], 1e-9, key)


def test_lira_tensorflow_privacy(lira_case):
    """The file's scores are lower for members, but for the offset."""
    attacks = {"both": "online", "in": "in_only", "out": "offline_two_sided"}
    keep, phi = lira_case["keep"], lira_case["scores"]
    last = phi[-1], phi[:-1], keep[:-1]
    for key, name in per_example_keys(lira_case, "out_tfp_lira_").items():
        option, fixed, centre = name.split("_")
        scores = lira.lira_scores(
            *last, attack=attacks[option], fixed_variance=fixed == "fv1", centre=centre
        )
        assert_close(-scores, lira_case[key], 1e-6, key)
    offset = lira.lira_scores(*last, attack="offset", centre="median")
    assert_close(offset, lira_case["out_tfp_offset_both"], 1e-6)


def test_lira_one_sided_offline_beats_the_released_form(lira_case):
    keep, phi = lira_case["keep"], lira_case["scores"]
    aucs = {}
    for attack in ("offline", "offline_two_sided"):
        scores = lira.lira_scores(phi[-1], phi[:-1], keep[:-1], attack=attack)
        aucs[attack] = roc.roc_auc(scores[keep[-1]], scores[~keep[-1]])
    assert aucs["offline"] > aucs["offline_two_sided"] + 0.05


def rmia_inputs(case, target, num_references):
    """A model and the first references but it and its pair: OUT ones for x, all for z."""
    p, population, member = (
        case[name] for name in ("softmax_true", "population_softmax_true", "memberships")
    )
    others = [m for m in range(p.shape[1]) if m // 2 != target // 2][: 2 * num_references]
    out = np.sort(np.where(member[:, others], 0, p[:, others]), axis=1)[:, -num_references:]
    return p[:, target], out, population[:, target], population[:, others]


def test_rmia_scores(rmia_case):
    for key, name in per_example_keys(rmia_case, "out_rmia_nref", "_scores").items():
        number, a = name.split("_a")
        inputs = rmia_inputs(rmia_case, int(rmia_case["target_model_idx"]), int(number))
        signals_out = np.sort(rmia_case[f"mid_out_signals_nref{number}"], axis=1)
        assert_close(inputs[1], signals_out, 1e-9)
        scores = rmia.rmia_scores(*inputs, offline_a=float(a), variant="released")
        assert_close(scores, rmia_case[key], 1e-9, key)


def test_rmia_rates(rmia_case):
    target = int(rmia_case["target_model_idx"])
    member = rmia_case["memberships"][:, target]
    for key, name in per_example_keys(rmia_case, "out_rmia_nref").items():
        if "_auc_tpr" not in name:
            continue
        number, a, levels = name.replace("_auc_tpr", "_a").split("_a")
        inputs = rmia_inputs(rmia_case, target, int(number))
        scores = rmia.rmia_scores(*inputs, offline_a=float(a), variant="released")
        sides = scores[member], scores[~member]
        actual = [roc.roc_auc(*sides)]
        actual += [roc.tpr_at_fpr(*sides, float(level)).tpr for level in levels.split("_")]
        assert_close(actual, rmia_case[key], 1e-9, key)


def test_rmia_tuned(rmia_case):
    """Tuned on the target's pair, with one reference."""
    paired = int(rmia_case["target_model_idx"]) ^ 1
    member = rmia_case["memberships"][:, paired]
    np.testing.assert_array_equal(member, rmia_case["out_tune_members_paired_model"])
    tuned = rmia.tune_offline_a(*rmia_inputs(rmia_case, paired, 1), member, variant="released")
    assert tuned.offline_a == pytest.approx(float(rmia_case["out_tuned_offline_a"]), abs=1e-9)
    assert_close(tuned.scores, rmia_case["out_tune_scores_paired_model"], 1e-9)


@pytest.mark.parametrize(
    ("key", "swapped"),
    [("out_kl_first_unlearned", False), ("out_kl_first_oracle_as_run_py_calls_it", True)],
)
def test_klom_released(klom_case, key, swapped):
    """Where the released code has no number, there is an error, and the closed bins have one."""
    margins = [klom_case["unlearned_margins"], klom_case["oracle_margins"]][:: -1 if swapped else 1]
    known = ~np.isnan(klom_case[key])
    actual = distances.klom(*(part[:, known] for part in margins), last_bin="released")
    assert_close(actual, klom_case[key][known], 1e-9)
    if not known.all():
        with pytest.raises(InputError, match=f"{np.sum(~known)} examples"):
            distances.klom(*margins, last_bin="released")
    assert np.isfinite(distances.klom(*margins)).all()


def test_klom_margins(klom_case):
    actual = [signals.margin(one, klom_case["labels"]) for one in klom_case["logits"]]
    # The reference takes logits and margins in float32.
    assert_close(actual, klom_case["out_margins"], 2e-6)


# Lower bounds on epsilon, one-run audits, the challenge

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
    case, compared = golden.load("jaxprivacy_auditor"), 0
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
    case, compared = golden.load("jaxprivacy_auditor"), 0
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
    case = golden.load("jaxprivacy_auditor")
    for name, positive, negative in _bounds_samples(case):
        fp, tp = roc.roc_hull(positive, negative)
        fpr, tpr = fp / len(negative), tp / len(positive)
        assert np.trapezoid(tpr, fpr) == pytest.approx(float(case[f"out_{name}_auroc"]), abs=1e-9)
        at_fpr = np.interp(case["fpr_grid"], fpr, tpr)
        np.testing.assert_allclose(at_fpr, case[f"out_{name}_tpr_at_fpr"], atol=1e-9)
        share = len(positive) / (len(positive) + len(negative))
        accuracy = np.max(share * tpr + (1 - share) * (1 - fpr))
        assert accuracy == pytest.approx(float(case[f"out_{name}_maxacc"]), abs=1e-9)


@pytest.mark.slow
def test_one_run_epsilons_of_scores_as_jax_privacy():
    """There every score above a threshold is a guess of "in", and Bonferroni pays for the hull."""
    case = golden.load("jaxprivacy_auditor")
    forms = {
        "": lambda m, r, v, alpha: one_run.one_run_bound(m, r, v, alpha=alpha, delta=1e-5).epsilon,
        "fdp_": lambda m, r, v, alpha: one_run.fdp_epsilon(m, r, v, alpha=alpha, delta=1e-5),
    }
    for name, positive, negative in _bounds_samples(case):
        m = len(positive) + len(negative)
        fp, tp = roc.roc_hull(positive, negative)
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
    case, compared = golden.load("tfp_epsilon_lower_bound"), 0
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
    case = golden.load("one_run_and_gdp")
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
            one_run.one_run_p_value(*counts, epsilon=value, delta=delta)
            for value in case["p_eps_grid"]
        ]
        for tool in ("privacymeter", "jaxprivacy"):
            np.testing.assert_allclose(
                p_values, case[f"out_pvalue_{tool}"][row], rtol=0, atol=1e-10
            )


def test_gdp_as_dp_accounting():
    case = golden.load("one_run_and_gdp")
    for mu, delta, given, expected, expected_mu in zip(
        *(case[key] for key in ("gdp_mu", "gdp_delta", "gdp_eps_in")),
        case["out_gdp_eps"],
        case["out_gdp_mu_from_eps"],
    ):
        assert epsilon.gdp_epsilon(mu, delta) == pytest.approx(expected, abs=1e-6)
        assert epsilon.gdp_mu(given, delta) == pytest.approx(expected_mu, abs=1e-6)


def test_forget_score_as_the_challenge():
    case = golden.load("challenge_epsilon")
    confidences = case["unlearned_confs"], case["retrained_confs"]
    actual = challenge.epsilons(*confidences, delta=float(case["delta"]))
    np.testing.assert_allclose(actual, case["out_epsilons"], atol=1e-6, rtol=0)
    expected = pytest.approx(float(case["out_forget_score"]), abs=1e-9)
    assert challenge.forget_score(*confidences) == expected
    scaled = signals.margin(case["logits"], case["labels"])
    np.testing.assert_allclose(scaled, case["out_logit_scaled_conf"], atol=1e-6)
