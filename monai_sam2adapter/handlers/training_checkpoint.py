# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a training run that survive being killed, and resuming from them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from ignite.handlers import EarlyStopping
from monai.engines import Evaluator, Trainer
from monai.utils import is_scalar
from torch.optim.lr_scheduler import LRScheduler

from ..networks.weights import unwrap_network
from ..networks.weights.match import match_tensors
from ..networks.weights.read import tensors_sha256
from ..networks.weights.training_state import (
    TRAINING_STATE_FORMAT,
    find_frozen,
    read_training_state,
    to_plain,
)
from ..utils import atomic_path, escaping_logger, is_same_file, require_flags
from .training_folder import (
    BEST,
    LAST,
    case_names,
    check_case_names,
    check_folder,
    lock_folder,
    options_as_text,
    report_options,
    require_unfinished,
    state_path,
)
from .training_schedule import restore_schedule

__all__ = ["TrainingCheckpoint"]

logger = escaping_logger(__name__)


class TrainingCheckpoint:
    """
    Save the state of a training run after every epoch and its best network, and resume from them.

    - ``last.pt``, after every epoch: what was trained of the network and all of its buffers, optimizer, learning rate
      schedule, gradient scaler, epoch, best metric and its epoch. Parameters that are frozen are not in it but their
      SHA-256: when a run is resumed they have to be those that it was started with, which the network has loaded as at
      the start, or has drawn from the same seed. A network that has loaded no base takes them from ``model.pt``. The
      run then goes on as if it had not stopped. Random number generators are not in the file:
      ``monai_sam2adapter.data.EpochSampler`` makes order and augmentation depend on seed and epoch alone. A network
      with dropout, which none of ours has, would draw anew.
    - ``model.pt``, whenever the evaluator's key metric improves: the flat state dictionary of the whole network on the
      CPU, as MONAI's bundles keep it. A key metric of NaN is never better. When the interval of the validation leaves
      the last epoch out, the evaluator runs once more at the end, so that every run ends with its best network.

    Both are written as a whole or not at all, load with ``weights_only=True``, and never hold NaN or infinite weights:
    the run stops with an error instead. ``monai.handlers.CheckpointSaver`` writes in place and forgets the best metric
    when a run is resumed.

    A run may be resumed with another number of epochs or another learning rate. The learning rate then takes the value
    that the new schedule has at this epoch, as if the run had followed it from the start, and a warning says so.
    ``ReduceLROnPlateau`` has no length and goes on from the learning rate that it had come to.

    It is one of the trainer's handlers, anywhere among them: it looks at the folder when the run starts, and from then
    on works after all handlers of the list, which step the schedule and run the validation. Only the first of several
    processes writes and copies tensors for it, all of them load.

    Args:
        output_dir: folder of the two files; made when missing.
        network: network in training, also inside ``DistributedDataParallel`` and ``torch.compile``. Neither shows in
            the names in the files.
        optimizer: its optimizer.
        lr_scheduler: schedule of the learning rate.
        evaluator: evaluator that the trainer runs, with a key metric that is one number. Its ``metric_cmp_fn`` says
            what is better (by default larger).
        resume: whether to go on from ``last.pt`` (``--resume True``). Defaults to False.
        overwrite: whether a new run may replace an earlier one (``--overwrite True``), whose two files are then removed
            when it starts. Defaults to False.
        cases: options by name that choose the cases, such as fold and split file. They are kept in ``last.pt``, as are
            the names of the cases, and a run is not resumed with others. Defaults to none.
        options: options that may change when a run is resumed, which a warning then says. Defaults to none.
        init_checkpoint: file that the network's weights were taken from. Where it is the ``model.pt`` of
            ``output_dir``, the run improves a model in its place: the network is validated before the first step, and
            the file stays until a better one is whole; ``last.pt`` then lies in the folder ``training`` beside it.
            Defaults to None.
        patience: validations in a row without a better network after which the run stops, by ignite's
            ``EarlyStopping``; a resumed run goes on counting. Defaults to None: it never does.

    Raises:
        ValueError: when ``resume`` or ``overwrite`` is not a bool, or the evaluator has no key metric. When the run
            starts: when it would overwrite another one; when ``last.pt`` cannot be read, or belongs to another network,
            base or optimizer, to other cases, or to a run that is finished; when another training is in the folder.
        FileNotFoundError: when the run starts and there is nothing to resume.
    """

    trainer: Trainer
    _stopping: EarlyStopping | None = None

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: LRScheduler,
        evaluator: Evaluator,
        resume: bool = False,
        overwrite: bool = False,
        cases: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        init_checkpoint: str | os.PathLike[str] | None = None,
        patience: int | None = None,
    ) -> None:
        require_flags(resume=resume, overwrite=overwrite)
        if evaluator.state.key_metric_name is None:
            raise ValueError("the best network is chosen by a key metric: give the evaluator a key_val_metric.")
        self.output_dir = Path(output_dir)
        self._last = state_path(self.output_dir, init_checkpoint)
        self.network = unwrap_network(network)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.resume = resume
        self.overwrite = overwrite
        self.init_checkpoint = init_checkpoint
        self.patience = patience
        self._waited = 0  # validations since the last better network
        self.cases = cases or {}
        self.options = options or {}
        self._options: dict[str, str] = {}
        self._case_names: dict[str, list[str]] = {}
        self.best_metric: float | None = None
        self.best_metric_epoch = -1
        self._frozen_sha256: str | None = None
        self._is_started = False
        # iterations of the trainer after which last.pt was written and the evaluator ran
        self._saved_at = -1
        self._validated_at = -1

    @staticmethod
    def check_output_dir(
        output_dir: str | os.PathLike[str],
        resume: bool = False,
        overwrite: bool = False,
        cases: Mapping[str, Any] | None = None,
        init_checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        """
        Refuse a folder that does not fit what is asked; cheap, so that a bundle can call it before it loads any data.

        Args:
            output_dir: folder of the checkpoints.
            resume: whether the run is to go on from ``last.pt``. Defaults to False.
            overwrite: whether the files of an earlier run may be replaced. Defaults to False.
            cases: as for the class.
            init_checkpoint: as for the class.

        Raises:
            FileNotFoundError: when there is nothing to resume.
            OSError: when nothing can be written to the folder.
            ValueError: when a new run would overwrite another one that it does not start from, both are asked for, or
                either is not a bool; when another training is in the folder, or the run to resume was started on other
                cases.
        """
        check_folder(Path(output_dir), resume, overwrite, cases, init_checkpoint)

    @staticmethod
    def progress(output_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
        """
        How far the run in a folder has come.

        Args:
            output_dir: folder of the checkpoints.

        Returns:
            ``epoch``, ``max_epochs``, ``iteration``, ``best_metric`` and ``best_metric_epoch`` of its last epoch,
            whether this was ``validated``, and whether the run was ``stopped`` for want of a better network; None when
            no epoch has ended.

        Raises:
            ValueError: when ``last.pt`` cannot be read.
        """
        last = Path(output_dir) / LAST
        if not last.is_file():
            return None
        saved = read_training_state(last)
        keys = ("epoch", "max_epochs", "iteration", "best_metric", "best_metric_epoch", "validated")
        return {key: saved[key] for key in keys} | {"stopped": saved.get("stopped", False)}

    def attach(self, engine: Trainer) -> None:
        """
        Args:
            engine: trainer of the network.

        Raises:
            ValueError: when the engine is no trainer.
        """
        if not isinstance(engine, Trainer):
            raise ValueError(f"TrainingCheckpoint belongs to the handlers of a trainer, got a {type(engine).__name__}.")
        self.trainer = engine
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, trainer: Trainer) -> None:
        """Check the folder, restore or remove the earlier run as asked, and listen from now on, behind all others."""
        if self._is_started:  # the same trainer runs once more
            return
        if idist.get_rank() == 0:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(self.output_dir)
        self.check_output_dir(self.output_dir, self.resume, self.overwrite, self.cases, self.init_checkpoint)
        self._options = options_as_text({**self.cases, **self.options})
        self._case_names = {
            "training": case_names(trainer.data_loader),
            "validation": case_names(self.evaluator.data_loader),
        }
        if self.resume:
            self._restore()
        elif is_same_file(self.init_checkpoint, self.output_dir / BEST):
            self._rate_start()
        elif self.overwrite and idist.get_rank() == 0:
            # else a run that dies early would leave the earlier model to be taken for its own
            for path in (self._last, self.output_dir / BEST):
                path.unlink(missing_ok=True)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._save_last)
        trainer.add_event_handler(Events.COMPLETED, self._validate_last)
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.COMPLETED, lambda: lock.release(force=True))
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._save_best)
        if self.patience is not None:
            # the epoch of the best network rises with each better one, whatever better means, and not for NaN
            self._stopping = EarlyStopping(self.patience, lambda _: self.best_metric_epoch, trainer)
            self._stopping.counter, self._stopping.best_score = self._waited, self.best_metric_epoch
            self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._stopping)
        self._is_started = True

    def _rate_start(self) -> None:
        """Validate the network before it is trained: ``model.pt``, which holds it, is replaced by a better one only."""
        self.evaluator.run()
        name = self.evaluator.state.key_metric_name
        value = float(self.evaluator.state.metrics[name])
        self.best_metric, self.best_metric_epoch = (None, -1) if math.isnan(value) else (value, 0)
        self._publish_best()
        logger.info("%s of the network that is trained further: %.4f", name, value)

    def _save_last(self, trainer: Trainer) -> None:
        self._saved_at = trainer.state.iteration
        self._check_finite()
        if idist.get_rank() != 0:
            return
        waited = 0 if self._stopping is None else self._stopping.counter
        frozen = self._frozen()
        if frozen and self._frozen_sha256 is None:
            self._frozen_sha256 = tensors_sha256(frozen)
        content = {
            "format": TRAINING_STATE_FORMAT,
            "network": {name: tensor for name, tensor in self.network.state_dict().items() if name not in frozen},
            "frozen_sha256": self._frozen_sha256,
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "scaler": {} if trainer.scaler is None else trainer.scaler.state_dict(),
            "options": self._options,
            "case_names": self._case_names,
            "validated": self._validated_at == trainer.state.iteration,
            "epoch": trainer.state.epoch,
            "iteration": trainer.state.iteration,
            "max_epochs": trainer.state.max_epochs,
            "epoch_length": trainer.state.epoch_length,
            "best_metric": self.best_metric,
            "best_metric_epoch": self.best_metric_epoch,
            "waited": waited,
            "stopped": self.patience is not None and waited >= self.patience,
        }
        self._write(self._last, content)
        if self._last.parent != self.output_dir:  # the run that made the model is not to be gone on with any more
            (self.output_dir / LAST).unlink(missing_ok=True)

    def _validate_last(self, trainer: Trainer) -> None:
        """Validate the network of the last epoch when the interval of the validation has left it out."""
        # a run that was terminated inside an epoch ends with the epoch before, which last.pt holds
        ends_with_epoch = self._saved_at == trainer.state.iteration
        if ends_with_epoch and self._validated_at != trainer.state.iteration:
            self.evaluator.run(trainer.state.epoch)
            self._save_last(trainer)  # once more, with the best metric
        if self._stopping is not None and self._stopping.counter >= self._stopping.patience:
            logger.info("Stopped: the last %d validations gave no better network.", self._stopping.counter)
        if self.best_metric_epoch == 0:
            logger.warning("No epoch was better than the start: %s is as it was.", self.output_dir / BEST)

    def _save_best(self, evaluator: Evaluator) -> None:
        name = evaluator.state.key_metric_name
        value = evaluator.state.metrics[name]
        if not is_scalar(value):
            raise ValueError(f'key metric {name} must be one number, got {value}; use its reduction "mean".')
        value = float(value)
        if math.isnan(value):
            logger.warning("%s is NaN at epoch %d: no best network from it.", name, evaluator.state.epoch)
        elif self.best_metric is None or evaluator.metric_cmp_fn(value, self.best_metric):
            self._check_finite()
            if idist.get_rank() == 0:
                self._write(self.output_dir / BEST, self.network.state_dict())
            self.best_metric, self.best_metric_epoch = value, evaluator.state.epoch
            logger.info("Best %s so far: %.4f at epoch %d, saved.", name, value, evaluator.state.epoch)
        self._publish_best()
        self._validated_at = self.trainer.state.iteration

    def _publish_best(self) -> None:
        """Correct the evaluator's own record, which takes a leading NaN for the best and knows nothing of resuming."""
        self.evaluator.state.best_metric = -1 if self.best_metric is None else self.best_metric
        self.evaluator.state.best_metric_epoch = self.best_metric_epoch

    def _frozen(self) -> dict[str, torch.Tensor]:
        """The parameters that are not trained, by their names in the state dictionary."""
        state, parameters = self.network.state_dict(), self.network.named_parameters(remove_duplicate=False)
        return {name: state[name] for name, parameter in parameters if not parameter.requires_grad}

    def _check_finite(self) -> None:
        """Stop in all processes when what was trained is broken."""
        state, frozen = self.network.state_dict(), self._frozen()
        broken = [name for name in state if name not in frozen and not state[name].isfinite().all()]
        if broken:
            raise RuntimeError(
                f"training stopped at epoch {self.trainer.state.epoch}: {len(broken)} tensors of the network hold NaN "
                f"or infinite values ({', '.join(broken[:3])}, ...); earlier checkpoints in {self.output_dir} are "
                "kept. Resume with a smaller learning rate or full precision (--amp False)."
            )

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with atomic_path(path) as temporary:
            torch.save(to_plain(content), temporary)

    def _restore(self) -> None:
        path = self._last
        saved = read_training_state(path)
        max_epochs = self.trainer.state.max_epochs
        self._waited = saved.get("waited", 0)
        require_unfinished(self.output_dir, saved, max_epochs, self.patience)
        self._check_network(saved["network"], path)
        self._check_optimizer(saved["optimizer"], path)
        check_case_names(saved, self._case_names)
        report_options(saved, self.options)
        base = self._find_base(saved.get("frozen_sha256"), path)

        self.network.load_state_dict({**base, **saved["network"]}, strict=False)  # what is missing is frozen and there
        restore_schedule(self.optimizer, self.lr_scheduler, saved, max_epochs)
        scaler = self.trainer.scaler
        if scaler is not None and scaler.is_enabled() and saved["scaler"]:
            scaler.load_state_dict(saved["scaler"])

        state = self.trainer.state
        state.epoch = saved["epoch"]
        # whole epochs are done; another batch size makes them as many iterations as it needs
        state.iteration = saved["iteration"] if state.epoch_length is None else saved["epoch"] * state.epoch_length
        self._saved_at, self._validated_at = state.iteration, state.iteration if saved["validated"] else -1
        self.best_metric, self.best_metric_epoch = saved["best_metric"], saved["best_metric_epoch"]
        if self.best_metric is not None and not (self.output_dir / BEST).is_file():
            logger.warning("%s is gone from %s: the next validated network replaces it.", BEST, self.output_dir)
            self.best_metric, self.best_metric_epoch = None, -1
        self._publish_best()
        now = ", ".join(f"{group['lr']:g}" for group in self.optimizer.param_groups)
        logger.info("Resumed %s after epoch %d of %d, learning rate %s.", path, state.epoch, max_epochs, now)

    def _check_network(self, saved: Mapping[str, torch.Tensor], path: Path) -> None:
        frozen = self._frozen()
        expected = {k: v for k, v in self.network.state_dict().items() if k in saved or k not in frozen}
        advice = "Resume with the options that the run was started with (variant, adapter, channels, ...)."
        match_tensors(saved, expected, path, "the run's last epoch", advice)

    def _find_base(self, sha256: str | None, path: Path) -> dict[str, torch.Tensor]:
        """The frozen weights to load besides the file: none when the network has them, else those of model.pt."""
        frozen, best = self._frozen(), self.output_dir / BEST
        loaded = getattr(self.network, "base_checkpoint", None)
        if loaded is not None and sha256 not in (None, tensors_sha256(frozen)):
            raise ValueError(
                f"{path} was trained on other frozen weights than {loaded}. Resume with the sam2_checkpoint that the "
                f"run was started with (and the dinov2_checkpoint), or leave it out to take them from {best}."
            )
        base = find_frozen(frozen, sha256, best)
        if base is None:
            raise ValueError(
                f"{path} holds only what was trained, and its frozen weights are neither in the network nor in {best}. "
                "Resume with the options that the run was started with (sam2_checkpoint, seed, ...)."
            )
        if base:
            logger.info("Took the frozen weights of the run from %s.", best)
        return base

    def _check_optimizer(self, saved: Mapping[str, Any], path: Path) -> None:
        own = self.optimizer.state_dict()["param_groups"]
        if [len(group["params"]) for group in own] != [len(group["params"]) for group in saved["param_groups"]]:
            raise ValueError(
                f"{path} was saved while other parameters were trained. Resume with the options that the run was "
                "started with (adapter, freeze, ...)."
            )
