"""What the command line takes: one dataclass for each command, its comments the help texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


def _unset(kind: type, metavar: str):
    """Return the type of an option that may be left out; its help says what happens then."""
    return Annotated[kind | None, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


_Text = _unset(str, "NAME")
_Folder = _unset(Path, "DIR")
_Run = _unset(Path, "RUN")
_File = _unset(Path, "FILE")
_Count = _unset(int, "N")
_Address = _unset(str, "HOST:PORT")
_Share = _unset(float, "SHARE")
_Classes = _unset(tuple[str, ...], "CLASS [CLASS ...]")
_Group = _unset(str, "COLUMN=VALUE")
_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_Patterns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATTERN [PATTERN ...]")]
_Seeds = Annotated[tuple[int, ...], tyro.conf.arg(metavar="N [N ...]")]


# Lines of the docstring that begin with a letter are joined by tyro and never wrapped.
@dataclass(frozen=True)
class Deletion:
    """Whom to forget, from which data and by which method."""

    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """digits (embedded), a TFDS image set such as cifar10, or your own package.module:function."""
    data_dir: _Folder = None
    """Folder in which TFDS keeps prepared data sets; by default TFDS's own."""
    train_size: _Count = None
    """Train on a stratified subset of this many examples; by default on all."""
    model: _Text = None
    """mlp, cnn, resnet20, resnet18, vit_tiny or package.module:function; by default what fits."""
    epochs: _Count = None
    """Passes over the data when training; by default the model's own number."""

    forget_ids: _File = None
    """File of ids to forget: text with one id a line, .csv, .json list or .npy array."""
    forget_id_column: _Text = None
    """Column of the CSV file that holds the ids; needed where it has several."""
    forget_class: _Classes = None
    """Forget all examples of these classes, by name or index."""
    forget_group: _Group = None
    """Forget all examples that have this value in a column of the data set."""
    forget_fraction: _Share = None
    """Forget a random share of the training set, between 0 and 1."""

    method: _Text = None
    """Unlearning method; `ltu methods` lists them. By default ltu, or that of --run."""
    config: _File = None
    """JSON file of options of the method, such as {"learning_rate": 0.01}, or RUN/tuning.json."""
    only: _Patterns = ()
    """Unlearn these parameters alone, such as 'head/*' or '*lora*'; all others stay to the bit."""
    retain_fraction: _Share = None
    """Share of the remaining data that the method may see, up to 1; by default 0.3."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of subset, splits, training and unlearning; the same seed gives the same numbers."""


@dataclass(frozen=True)
class Unlearn(Deletion):
    """Make a trained network unlearn training examples, and audit the result.

    1. Trains a network on the data, or takes the one that --checkpoint names.
    2. Removes the influence of the forget set from it by an unlearning method.
    3. Retrains two networks without the forget set, to compare with.
    4. Attacks all of them; writes checkpoints and report.html into a folder.

    One --forget-* option says whom to forget; without any, a random tenth.

      ltu unlearn
      ltu unlearn --forget-class 3
      ltu unlearn --data cifar10 --data-dir DIR --forget-ids ids.txt --out RUN
      ltu unlearn --resume RUN
      ltu unlearn --forget-class 3 --dry-run
      ltu unlearn --run RUN --forget-ids next.txt
    """

    run: _Run = None
    """Finished run to go on from: same data, model and seed, less what it has forgotten."""
    checkpoint: _Folder = None
    """Trained network to start from (Orbax, such as RUN/original); by default one is trained."""
    reference: Literal["retrain", "none"] = "retrain"
    """retrain: also train two networks without the forget set, to compare with; none: do not."""
    out: _Folder = None
    """Folder for the results, new or empty; by default a fresh one under runs/."""
    resume: _Run = None
    """Go on with this run, which was stopped; its folder holds all settings, so give no other."""
    stream: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave the training images of a TFDS set on disk, if no memory holds them."""
    save_every: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Steps after which a run saves its state; SIGTERM saves it as well."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""
    log: Literal["text", "json"] = "text"
    """json: one object a line on stdout for phases, steps (one a second at most) and the result."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only say what would be done, with which data and at what cost; train and write nothing."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write every step for TensorBoard, into the folder of the results."""
    wandb: _unset(str, "PROJECT") = None
    """Also send every step to this project of Weights & Biases."""
    devices: _Count = None
    """How many devices share the work of every step; by default all there are."""
    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """This is one of several processes, which find each other by TPU pod, SLURM or Kubernetes."""
    coordinator: _Address = None
    """Elsewhere: the address at which all processes reach process 0."""
    num_processes: _Count = None
    """Elsewhere: how many processes take part."""
    process_id: _Count = None
    """Elsewhere: the number of this one, from 0."""


@dataclass(frozen=True)
class Tune(Unlearn):
    """Choose a method's options by trials, then unlearn with them.

    1. Every trial is kept from a part of what the method may see.
    2. It is scored on that part: how confidences on the forget set match those on
       unseen examples, and how much accuracy is lost.
    3. The best is run again on everything, audited and reported.

    Neither Retrain nor the test set takes part; tuning.json tells all trials.

      ltu tune --method scrub
      ltu tune --method ltu --forget-class 3 --trials 4
    """

    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """How many options are tried; the first trial has the defaults."""
    select: Literal["oracle_free", "oracle"] = "oracle_free"
    """oracle: choose by the gap to Retrain instead; everything then says that this was done."""


@dataclass(frozen=True)
class Compare:
    """Compare methods over scenarios and seeds, with Retrain beside them.

    - Originals and retrained networks are trained once and kept in --cache.
    - Finished runs are on disk: the same command goes on where it was stopped.
    - Commands for other scenarios may run at the same time, into the same folder.

      ltu compare --out runs/compare
      ltu compare --out RUN --methods ltu scrub salun --scenarios class
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for rows, tables and figures; one that holds this comparison is gone on with."""
    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """As for ltu unlearn."""
    data_dir: _Text = None
    """Folder in which TFDS keeps prepared data sets; by default TFDS's own."""
    train_size: _Count = None
    """Train on a stratified subset of this many examples; by default on all."""
    model: _Text = None
    """As for ltu unlearn."""
    epochs: _Count = None
    """Passes over the data when training; by default the model's own number."""
    methods: _Names = ()
    """Methods to compare; by default all."""
    scenarios: _Names = ("random_10", "class")
    """Whom to forget: random_10, random_50, class, subclass (one of two merged classes)."""
    train_seeds: _Seeds = (0, 1, 2)
    """Of subset, split and training; each has an original and two Retrains of its own."""
    unlearn_seeds: _Seeds = (0,)
    """Every method runs once for each of them on each original."""
    retain_fraction: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.3
    """Share of the remaining data that methods may see, above 0 and at most 1."""
    select: Literal["oracle_free", "default", "oracle"] = "oracle_free"
    """How options are chosen: by trials without Retrain, not at all, or with Retrain in sight."""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """How many options every method tries."""
    select_seed: Annotated[int, tyro.conf.arg(metavar="N")] = 100
    """Training seed of the trials; not one of --train-seeds."""
    match: Literal["none", "data", "compute"] = "none"
    """Control: give all methods the validation images too, or scale them to LTU's compute."""
    cache: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/cache")
    """Folder in which trained networks are kept, by the content they follow from."""


@dataclass(frozen=True)
class Ensemble(Deletion):
    """Train, or train and unlearn, many models at once, for ltu audit.

    - original: models trained on everything, each with its own seed.
    - retrain: models trained without the forget set.
    - unlearned: the models of original, unlearned by the method.
    - shadow: paired models with opposite inclusion bits; a bit selects which of two
      examples of a class a model is trained on.
    - shadow_unlearned: these models, after unlearning the selected examples.
    - shadow_retrain: models trained on neither example.

    - Finished parts stay on disk: repeating an interrupted command resumes it.
    - A complete ensemble is not made again.

      ltu ensemble --type retrain --size 64
      ltu ensemble --run RUN --type retrain unlearned shadow_unlearned
    """

    run: _Folder = None
    """Folder of a finished run, whose data, request and method to take; give no other then."""
    type: _Names = ("retrain", "unlearned", "shadow_unlearned")
    """Types of ensembles to make."""
    size: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Models on each side of a comparison; shadow types have two for each."""
    ensembles: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/ensembles")
    """Folder of all ensembles, each under a digest of everything it depends on."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""


@dataclass(frozen=True)
class Audit:
    """Audit a finished run more strictly, and add the results to its report.

    1. Attacks on the run's models, each with Retrain's value as its target.
    2. With ensembles: attacks on single examples, against models that never saw
       them; lower bounds on epsilon, and the smallest detectable epsilon.

      ltu audit RUN
      ltu ensemble --run RUN && ltu audit RUN --ensembles runs/ensembles
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run, as ltu unlearn named it."""
    ensembles: _Folder = None
    """Folder of ensembles, or one of the ensembles in it; by default none is used."""
    alpha: Annotated[float, tyro.conf.arg(metavar="LEVEL")] = 0.05
    """Chance of a false alarm, shared among all tests of the audit."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""


@dataclass(frozen=True)
class Ledger:
    """Show or check the ledger of a run: what its model was made to forget.

    Checking compares every entry with the one before it, the checkpoints in the
    folder and the report; exit code 1 says that something was edited.

      ltu ledger show RUN
      ltu ledger verify RUN
    """

    action: tyro.conf.Positional[Literal["show", "verify"]]
    """show: print a line for each deletion; verify: check everything."""
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    head: _Text = None
    """SHA-256 of an entry that was noted elsewhere; verify fails if no entry has it."""


@dataclass(frozen=True)
class Queue:
    """Collect requests and answer them all by one deletion.

    1. add checks the ids against what the model still holds, and keeps them in
       RUN/queue.
    2. run forgets the ids of all pending requests together, from the newest run of
       the chain on; then it deletes their files. Given again, it goes on where it
       was stopped.

      ltu queue add RUN --forget-ids ids.txt
      ltu queue show RUN
      ltu queue run RUN
    """

    action: tyro.conf.Positional[Literal["add", "show", "run"]]
    """add: file a request; show: print what is pending; run: answer it."""
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run whose queue it is; later runs of its chain are found from there."""
    forget_ids: _File = None
    """For add: file of ids, as for ltu unlearn."""
    forget_id_column: _Text = None
    """For add: column of the CSV file that holds the ids."""
    reference: Literal["retrain", "none"] = "retrain"
    """For run: as for ltu unlearn."""
    out: _Folder = None
    """For run: folder for the results, new or empty; by default a fresh one under runs/."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """For run: show no progress bars."""


@dataclass(frozen=True)
class Selfcheck:
    """Check the checker: cases with known answers, in about a minute.

    Ends with exit code 1 if any of them comes out wrong.
    """

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of all random draws."""


@dataclass(frozen=True)
class Methods:
    """List the unlearning methods."""
