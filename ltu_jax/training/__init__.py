"""Supervised training, ensembles, devices, hosts, and checkpoints, on top of one loop."""

from ltu_jax.training.checkpoint import as_variables, export, restore, save_checkpoint
from ltu_jax.training.devices import Parallel, gathered, over_devices
from ltu_jax.training.ensembles import predict_members, train_members, unlearn_members
from ltu_jax.training.loop import History, run, unlearn
from ltu_jax.training.resume import Saver
from ltu_jax.training.steps import Step
from ltu_jax.training.supervised import RECIPES, Recipe, predict, recipe_for, train

__all__ = [
    "RECIPES",
    "History",
    "Parallel",
    "Recipe",
    "Saver",
    "Step",
    "as_variables",
    "export",
    "gathered",
    "over_devices",
    "predict",
    "predict_members",
    "recipe_for",
    "restore",
    "run",
    "save_checkpoint",
    "train",
    "train_members",
    "unlearn",
    "unlearn_members",
]
