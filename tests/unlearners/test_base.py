"""Options are checked by their annotations; a spec holds sizes and types of the data."""

import jax
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.types import Examples, Split
from ltu_jax.unlearners import METHODS
from ltu_jax.unlearners.bad_teacher import BadTeacherConfig
from ltu_jax.unlearners.base import spec_of_split
from ltu_jax.unlearners.boundary_shrink import BoundaryShrinkConfig
from ltu_jax.unlearners.cf_k import LastLayersConfig
from ltu_jax.unlearners.finetune import FineTuneConfig
from ltu_jax.unlearners.fisher_forgetting import FisherForgettingConfig
from ltu_jax.unlearners.gradient_ascent import GradientAscentConfig
from ltu_jax.unlearners.influence import InfluenceConfig
from ltu_jax.unlearners.l1_sparse import L1SparseConfig
from ltu_jax.unlearners.msg import MSGConfig
from ltu_jax.unlearners.neggrad_plus import NegGradPlusConfig
from ltu_jax.unlearners.negmerge import NegMergeConfig
from ltu_jax.unlearners.random_label import RandomLabelConfig
from ltu_jax.unlearners.salun import SalUnConfig
from ltu_jax.unlearners.scrub import ScrubConfig
from ltu_jax.unlearners.sfr_on import SFROnConfig
from ltu_jax.unlearners.sfr_on_topk import SFROnTopKConfig
from ltu_jax.unlearners.ssd import SSDConfig
from ltu_jax.unlearners.unsir import UNSIRConfig
from tests import tiny


@pytest.mark.parametrize(
    ("config", "argument", "value"),
    [
        (BadTeacherConfig, "retain_share", 0),
        (BoundaryShrinkConfig, "epsilon", 0.0),
        (BoundaryShrinkConfig, "epsilon", 1.5),
        (FineTuneConfig, "distill", 1.5),
        (FineTuneConfig, "momentum", 1.0),
        (GradientAscentConfig, "share", 0.0),
        (GradientAscentConfig, "share", 1.5),
        (L1SparseConfig, "penalty", -0.1),
        (L1SparseConfig, "unpenalised_epochs", 10),
        (NegGradPlusConfig, "retain_weight", 1.5),
        (NegGradPlusConfig, "pull", -1.0),
        (RandomLabelConfig, "order", "mixed"),
        (RandomLabelConfig, "distill", -0.1),
        (RandomLabelConfig, "temperature", 0),
        (SalUnConfig, "share", 0),
        (SFROnTopKConfig, "saliency", 0),
        (SFROnTopKConfig, "slow_every", 0),
        (ScrubConfig, "max_epochs", 0),
        (ScrubConfig, "alpha", -1),
        (ScrubConfig, "decay_epochs", (0,)),
        (SSDConfig, "importance", "logits"),
        (SSDConfig, "dampening_constant", -1),
        (InfluenceConfig, "damping", 0),
        (FisherForgettingConfig, "alpha", 0),
        (NegMergeConfig, "learning_rates", ()),
        (NegMergeConfig, "aggregate", "mode"),
        (NegMergeConfig, "grouping", "best"),
        (NegMergeConfig, "consensus", 1.1),
        (SFROnConfig, "forget_every", 0),
        (SFROnConfig, "slow_rate", 1.5),
        (SFROnConfig, "ascent", 0),
        (MSGConfig, "reset", 0.0),
        (MSGConfig, "warmup", 1),
        (LastLayersConfig, "layers", 0),
        (UNSIRConfig, "noise_share", 1.0),
        (UNSIRConfig, "impair_epochs", 0),
    ],
)
def test_options_out_of_range_are_refused(config, argument, value):
    with pytest.raises(InputError) as error:
        config(**{argument: value})
    assert error.value.argument == argument


class NoValues:
    """Inputs of which only shape and type may be read."""

    shape, dtype = (20, 8, 8, 1), np.dtype(np.uint8)


def test_the_spec_of_a_split_reads_no_example():
    dataset = tiny.table()
    dataset = dataset._replace(train=Examples(NoValues(), dataset.train.labels))
    split = Split(*(np.arange(size) for size in (3, 17, 5, 2, 4)))
    spec = spec_of_split(dataset, split)
    assert spec[:4] == (3, 5, 2, dataset.num_classes)
    assert spec.inputs == jax.ShapeDtypeStruct((1, 8, 8, 1), np.uint8)


@pytest.mark.parametrize("name", METHODS)
def test_the_docstring_of_a_builder_has_maths_an_example_and_references(name):
    text = METHODS[name].build.__doc__
    assert ".. math::" in text or ":math:" in text
    assert "Example:" in text
    assert ">>> " in text
    assert "References:" in text
