"""From model outputs to evidence: attacks, distances and bounds."""

from ltu_jax.audit import signals
from ltu_jax.audit.attacks import (
    ks_distance,
    loss_auc,
    loss_logistic_accuracy,
    supervised_auc,
    svc_mia,
    two_model_auc,
)
from ltu_jax.audit.bounds import (
    auc_floor_band,
    balanced_accuracy_floor,
    holm,
    ks_floor,
    retrained_auc_band,
)
from ltu_jax.audit.distances import (
    activation_distance,
    js_divergence,
    klom,
    klom_floor,
    relearn_time,
    weight_distance,
    zrf,
)
from ltu_jax.audit.ensembles import (
    Outputs,
    attack_ensembles,
    ensemble_margins,
    ensemble_outputs,
    paired_examples,
    part_examples,
)
from ltu_jax.audit.epsilon import (
    Bound,
    certifiable_epsilon,
    clopper_pearson,
    detectable_epsilon,
    epsilon_lower_bound,
    gdp_epsilon,
    gdp_mu,
    gdp_mu_lower_bound,
)
from ltu_jax.audit.evidence import Evidence, attack_membership, distinguish
from ltu_jax.audit.features import (
    LabelledLogits,
    svc_mia_by_feature,
    svc_training_privacy,
    threshold_attacks,
)
from ltu_jax.audit.lira import leave_one_out_lira, lira_scores
from ltu_jax.audit.measure import Measurements, measure_model, measure_models
from ltu_jax.audit.models import compare_models
from ltu_jax.audit.one_run import (
    count_correct,
    fdp_epsilon,
    group_bound,
    guess_inclusion,
    one_run_bound,
    one_run_p_value,
    swap_difference,
)
from ltu_jax.audit.per_example import example_auc, summarise_scores, worst_auc
from ltu_jax.audit.population import population_attacks
from ltu_jax.audit.relearn import relearn_curve
from ltu_jax.audit.rmia import leave_one_out_rmia, rmia_scores, tune_offline_a
from ltu_jax.audit.roc import (
    auc_difference_error,
    auc_interval,
    best_balanced_accuracy,
    partial_auc,
    roc_auc,
    roc_curve,
    tpr_at_fpr,
)
from ltu_jax.audit.summary import (
    GAP_METRICS,
    Row,
    accuracy,
    evaluate,
    example_scores,
    row_of,
    with_gaps,
)

__all__ = [
    "GAP_METRICS",
    "Bound",
    "Evidence",
    "LabelledLogits",
    "Measurements",
    "Outputs",
    "Row",
    "accuracy",
    "activation_distance",
    "attack_ensembles",
    "attack_membership",
    "auc_difference_error",
    "auc_floor_band",
    "auc_interval",
    "balanced_accuracy_floor",
    "best_balanced_accuracy",
    "certifiable_epsilon",
    "clopper_pearson",
    "compare_models",
    "count_correct",
    "detectable_epsilon",
    "distinguish",
    "ensemble_margins",
    "ensemble_outputs",
    "epsilon_lower_bound",
    "evaluate",
    "example_auc",
    "example_scores",
    "fdp_epsilon",
    "gdp_epsilon",
    "gdp_mu",
    "gdp_mu_lower_bound",
    "group_bound",
    "guess_inclusion",
    "holm",
    "js_divergence",
    "klom",
    "klom_floor",
    "ks_distance",
    "ks_floor",
    "leave_one_out_lira",
    "leave_one_out_rmia",
    "lira_scores",
    "loss_auc",
    "loss_logistic_accuracy",
    "measure_model",
    "measure_models",
    "one_run_bound",
    "one_run_p_value",
    "paired_examples",
    "part_examples",
    "partial_auc",
    "population_attacks",
    "relearn_curve",
    "relearn_time",
    "retrained_auc_band",
    "rmia_scores",
    "roc_auc",
    "roc_curve",
    "row_of",
    "signals",
    "summarise_scores",
    "supervised_auc",
    "svc_mia",
    "svc_mia_by_feature",
    "svc_training_privacy",
    "swap_difference",
    "threshold_attacks",
    "tpr_at_fpr",
    "tune_offline_a",
    "two_model_auc",
    "weight_distance",
    "with_gaps",
    "worst_auc",
    "zrf",
]
