"""The options of each command as a dataclass; its comments are the help texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


def _unset(metavar: str):
    """Return the mark of an option that may be left out; its help says what happens then."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Kind = Literal[
    "auto", "logits", "probabilities", "log_probabilities", "confidence", "loss", "margin"
]
_Text = Annotated[str | None, _unset("NAME")]
_Folder = Annotated[Path | None, _unset("DIR")]
_Place = Annotated[str | None, _unset("DIR")]  # may be a bucket
_Run = Annotated[Path | None, _unset("RUN")]
_File = Annotated[Path | None, _unset("FILE")]
_Count = Annotated[int | None, _unset("N")]
_Address = Annotated[str | None, _unset("HOST:PORT")]
_Share = Annotated[float | None, _unset("SHARE")]
_Classes = Annotated[tuple[str, ...] | None, _unset("CLASS [CLASS ...]")]
_Groups = Annotated[tuple[str, ...] | None, _unset("COLUMN=VALUE [COLUMN=VALUE ...]")]
_Column = Annotated[
    str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="", aliases=("--id-column",))
]
_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_Patterns = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATTERN [PATTERN ...]")]
_Paths = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH [PATH]")]
_Seeds = Annotated[tuple[int, ...], tyro.conf.arg(metavar="N [N ...]")]


# Lines of the docstring that begin with a letter are joined by tyro and never wrapped.
@dataclass(frozen=True)
class Deletion:
    """The examples to forget, the data and the method."""

    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """digits (embedded), a TFDS image set such as cifar10, or your own package.module:function."""
    data_dir: _Place = None
    """Folder in which TFDS keeps prepared data sets; by default TFDS's own."""
    train_size: _Count = None
    """Train on a stratified subset of this many examples; by default on all."""
    model: _Text = None
    """mlp, cnn, resnet20, resnet18, vit_tiny or package.module:function; default: by the data."""
    epochs: _Count = None
    """Training epochs; by default those of the model's recipe."""

    forget_ids: _File = None
    """File of ids to forget: text with one id a line, .csv, .json list or .npy array."""
    forget_id_column: _Column = None
    """Column of the ids in a CSV file; if the data set has it too, all rows of these ids."""
    forget_class: _Classes = None
    """Forget all examples of these classes, by name or index; name=1 or index=1 says which."""
    forget_group: _Groups = None
    """Forget all examples that have one of these values in a column of the data set."""
    forget_fraction: _Share = None
    """Forget a random share of the training set, between 0 and 1."""

    method: _Text = None
    """Unlearning method; `ltu methods` lists all. By default ltu, or the method of --run."""
    config: _File = None
    """JSON file of options of the method, such as {"learning_rate": 0.01}, or RUN/tuning.json."""
    only: _Patterns = ()
    """Change only these parameters, such as 'head/*' or '*lora*'; all others stay identical."""
    retain_fraction: _Share = None
    """Share of the remaining data that the method may see, up to 1; by default 0.3."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of subset, splits, training and unlearning; equal seeds give equal numbers."""


@dataclass(frozen=True)
class Unlearn(Deletion):
    """Unlearn training examples from a trained model, and audit the result.

    1. Trains a model on the data, or loads the one that --checkpoint names.
    2. Removes the influence of the forget set by an unlearning method.
    3. Retrains two models without the forget set, to compare with.
    4. Attacks all models; writes checkpoints and report.html into a folder.

    One --forget-* option selects the examples; by default

    - of the embedded digits the class 4, which shows what forgetting looks like;
    - of other data a random tenth.

      ltu unlearn
      ltu unlearn --forget-class 3
      ltu unlearn --data cifar10 --data-dir DIR --forget-ids ids.txt --out RUN
      ltu unlearn --resume RUN
      ltu unlearn --forget-class 3 --dry-run
      ltu unlearn --run RUN --forget-ids next.txt
    """

    run: _Run = None
    """Finished run to continue: same data, model and seed, minus what it has forgotten."""
    checkpoint: _Place = None
    """Trained model to start from (Orbax, such as RUN/original); by default one is trained."""
    retrain_checkpoint: _Paths = ()
    """One or two models that you trained without the forget set, instead of training them."""
    reference: Literal["retrain", "none"] = "retrain"
    """retrain: also train two models without the forget set, to compare with; none: do not."""
    out: _Folder = None
    """Folder for the results, new or empty; by default a new one under runs/."""
    resume: _Run = None
    """Stopped run to resume; its folder holds all settings, so give no others."""
    stream: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave the training images of a TFDS set on disk, if memory cannot hold them."""
    save_every: Annotated[int, tyro.conf.arg(metavar="N")] = 200
    """Steps between two checkpoints of the run; SIGTERM also makes it save its state."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""
    log: Literal["text", "json"] = "text"
    """json: one object per line on stdout: phases, steps (at most one per second), the result."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only print what would be done, with which data and at what cost."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write every step for TensorBoard, into the folder of the results."""
    wandb: Annotated[str | None, _unset("PROJECT")] = None
    """Also send every step to this project of Weights & Biases."""
    devices: _Count = None
    """Number of devices that share each step; by default all."""
    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Join other processes, which TPU pods, SLURM or Kubernetes make known to each other."""
    coordinator: _Address = None
    """Without such a cluster: address at which all processes reach process 0."""
    num_processes: _Count = None
    """Without such a cluster: number of processes."""
    process_id: _Count = None
    """Without such a cluster: number of this process, from 0."""


@dataclass(frozen=True)
class Tune(Unlearn):
    """Tune a method's options by trials, then unlearn with them.

    1. Each trial runs without a held-back part of what the method may see.
    2. It is scored on that part: how confidences on the forget set match those on
       unseen examples, and how much accuracy is lost.
    3. The best options are used on everything, audited and reported.

    Neither Retrain nor the test set is used; tuning.json lists all trials.

      ltu tune --method scrub
      ltu tune --method ltu --forget-class 3 --trials 4
    """

    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Number of trials; the first has the default options."""
    select: Literal["oracle_free", "oracle"] = "oracle_free"
    """oracle: choose by the gap to Retrain instead, and say so in the report."""


@dataclass(frozen=True)
class Compare:
    """Compare methods with Retrain over scenarios and seeds.

    - Originals and retrained models are trained once and kept in --cache.
    - Results are kept on disk: repeating an interrupted command resumes it.
    - Commands for other scenarios may run at the same time, into the same folder.

      ltu compare --out runs/compare
      ltu compare --out RUN --methods ltu scrub salun --scenarios class
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for results, tables and figures; a comparison in it is continued."""
    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """As for ltu unlearn."""
    data_dir: _Text = None
    """Folder in which TFDS keeps prepared data sets; by default TFDS's own."""
    train_size: _Count = None
    """Train on a stratified subset of this many examples; by default on all."""
    model: _Text = None
    """As for ltu unlearn."""
    epochs: _Count = None
    """Training epochs; by default those of the model's recipe."""
    checkpoint: _Place = None
    """Trained model to take as the original of every seed; by default one is trained for each."""
    forget_ids: _File = None
    """File of ids to forget in every seed, as for ltu unlearn; in place of --scenarios."""
    forget_id_column: _Column = None
    """As for ltu unlearn."""
    methods: _Names = ()
    """Methods to compare; by default all."""
    scenarios: _Names = ("random_10", "class")
    """What to forget: random_10, random_50, class, subclass (one of two merged classes)."""
    train_seeds: _Seeds = (0, 1, 2)
    """Seeds of subset, split and training; each has its own original and two Retrains."""
    unlearn_seeds: _Seeds = (0,)
    """Each method runs once per seed on each original."""
    retain_fraction: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.3
    """Share of the remaining data that methods may see, above 0 and at most 1."""
    select: Literal["oracle_free", "default", "oracle"] = "oracle_free"
    """How options are tuned: by trials without Retrain, not at all, or against Retrain."""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Number of trials of each method."""
    select_seed: Annotated[int, tyro.conf.arg(metavar="N")] = 100
    """Training seed of the trials; not one of --train-seeds."""
    match: Literal["none", "data", "compute"] = "none"
    """Control: give all methods the validation images too, or scale them to LTU's compute."""
    cache: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/cache")
    """Folder of trained models, each under a digest of everything it depends on."""


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

    - Without --run and --forget-*, the request is a random tenth: the shadow
      types pair every forget example with a retain example of its class.
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
    """Audit a finished run more strictly, or models of any framework by their outputs.

    1. Attacks on the run's models, each with Retrain's value as its target.
    2. With ensembles: attacks on single examples, against models that never saw
       them; lower bounds on epsilon, and the smallest detectable epsilon.
    3. With --outputs: the same from a file of logits or probabilities of any models;
       the page "Any model" of the documentation shows the format.

      ltu audit RUN
      ltu ensemble --run RUN && ltu audit RUN --ensembles runs/ensembles
      ltu audit --outputs outputs.npz
    """

    run: tyro.conf.Positional[_Run] = None
    """Folder of the run, as ltu unlearn named it; none with --outputs."""
    outputs: _File = None
    """File or folder of outputs (.npz, .csv, .parquet, or .npy files), in place of a run."""
    kind: Kind = "auto"
    """For --outputs: what the numbers are; auto finds logits and probabilities."""
    seed: _Count = None
    """For --outputs: seed of subsets and folds; by default that of the file, else 0."""
    out: _Folder = None
    """For --outputs: folder of the report, new or empty; by default a new one under runs/."""
    write_outputs: _File = None
    """For a run: also write the outputs of its models to this .npz file."""
    ensembles: _Folder = None
    """Folder of ensembles, or one of the ensembles in it; by default none is used."""
    alpha: Annotated[float, tyro.conf.arg(metavar="LEVEL")] = 0.05
    """Chance of a false alarm, shared among all tests of the audit."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""


@dataclass(frozen=True)
class Ledger:
    """Show, sign or verify the ledger of a run: the deletions of its model.

    - sign writes RUN/statements/entry-0001.json: an in-toto statement of the newest
      deletion in a DSSE envelope. It needs pip install 'ltu-jax[sign]'.
    - verify compares every entry with the one before it, the checkpoints in the
      folder, the report and the statements; exit code 1 means that something was
      edited.

      ltu ledger show RUN
      ltu ledger sign RUN --key KEY
      ltu ledger verify RUN --key KEY.pub
    """

    action: tyro.conf.Positional[Literal["show", "sign", "verify"]]
    """show: print a line per deletion; sign: sign the newest; verify: check everything."""
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    key: _File = None
    """For sign: the private key, see ltu keygen. For verify: the public key."""
    head: _Text = None
    """For verify: SHA-256 of an entry, noted elsewhere; fails if no entry has it."""
    tsa_root: _File = None
    """For verify: root certificate (PEM) of the authority of the time stamps (RFC 3161)."""


@dataclass(frozen=True)
class Queue:
    """Collect requests and complete them together by one deletion.

    1. add checks the ids against the remaining training set, and keeps them in
       RUN/queue.sqlite.
    2. run forgets the ids of all pending requests, continuing the newest run of the
       sequence; then it deletes them there. Repeating an interrupted command
       resumes it.

      ltu queue add RUN --forget-ids ids.txt
      ltu queue show RUN
      ltu queue remove RUN --request 20260131T
      ltu queue run RUN
    """

    action: tyro.conf.Positional[Literal["add", "show", "remove", "run"]]
    """add: add a request; show: print pending ones; remove: take one out; run: complete them."""
    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of the run whose queue it is; later runs of its sequence are found from it."""
    forget_ids: _File = None
    """For add: file of ids, as for ltu unlearn."""
    forget_id_column: _Column = None
    """For add: as for ltu unlearn."""
    request: _Text = None
    """For remove: name of the request, or its first characters."""
    reference: Literal["retrain", "none"] = "retrain"
    """For run: as for ltu unlearn."""
    out: _Folder = None
    """For run: folder for the results, new or empty; by default a new one under runs/."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """For run: show no progress bars."""


@dataclass(frozen=True)
class Selfcheck:
    """Test the audit on cases with known answers, in about a minute.

    Ends with exit code 1 if any result is wrong.
    """

    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of all random draws."""


@dataclass(frozen=True)
class Methods:
    """List the unlearning methods."""
