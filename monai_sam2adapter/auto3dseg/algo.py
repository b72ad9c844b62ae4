# SPDX-License-Identifier: Apache-2.0
"""The bundle ``volume_segmentation`` as an algorithm that MONAI's ``AutoRunner`` generates, trains and ensembles."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.apps.auto3dseg import BundleAlgo
from monai.bundle import ConfigParser
from monai.config import PathLike

from ..handlers import TrainingCheckpoint
from ..utils import escaping_logger
from ..utils.files import read_json, write_json
from .data_source import bundle_datalist, image_size_of
from .defaults import change_defaults, in_our_names

__all__ = ["SAM2AdapterAlgo"]

logger = escaping_logger(__name__)

# those of bundles/volume_segmentation: a link in the repository, files in what is built of it
_CONFIGS = Path(__file__).with_name("configs")
_CHECKPOINT = "$'sam2.1_hiera_' + @variant if @encoder == 'sam2' else None"
_INFER = '''"""What MONAI's Auto3DSeg predicts with."""

from monai_sam2adapter.auto3dseg import CaseInferer as InferClass

__all__ = ["InferClass"]
'''


class SAM2AdapterAlgo(BundleAlgo):
    """
    SAM 2 with adapters as an algorithm of Auto3DSeg.

    Generated for each fold is the bundle ``volume_segmentation``, whose defaults are filled in: the datalist with its
    folds, names of classes, modality and image size. It trains in a process of its own by ``python -m monai.bundle run
    training``, on several GPUs of a machine by torchrun; every other command of a bundle works on its folder, too.
    Normalization and the plane of the slices are chosen by the training from its cases, not by the data statistics.

    Args:
        template_path: what ``BundleAlgo`` has; not used, since the template is part of this package. Defaults to None.
        options: options of the bundle, such as ``{"adapter": "lw", "epochs": 50}``, also those that only inference has,
            such as ``tta_flips``. What ``AutoRunner.set_training_params`` and ``set_prediction_params`` give goes
            before them. Unless ``sam2_checkpoint`` is among them, the first training downloads SAM 2.1's weights.
            Defaults to none.

    Example:
        >>> from monai_sam2adapter.auto3dseg import SAM2AdapterAlgo
        >>> algo = {"_target_": "monai_sam2adapter.auto3dseg.SAM2AdapterAlgo", "options": {"adapter": "lw"}}
        >>> algos = {"sam2adapter": algo}  # for AutoRunner(algos=algos, ...)
    """

    def __init__(self, template_path: PathLike | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(template_path)
        self.options = dict(options or {})

    def state_dict(self) -> dict[str, Any]:
        """What MONAI writes to ``algo_object.json``."""
        return {**super().state_dict(), "options": self.options}

    def export_to_disk(self, output_path: str, algo_name: str, **kwargs: Any) -> None:
        """
        Write the bundle of a fold to ``output_path/algo_name``, in place of what is there.

        Args:
            output_path: folder of all algorithms.
            algo_name: name of the bundle's folder.
            kwargs: ``fold``, by default that of the last call, else 0, and other options, by their names here or in
                MONAI's algorithms.

        Raises:
            ValueError: when the algorithm's name has a "_", an option is unknown or has a wrong value, or the data
                cannot be trained on: pictures, regions, classes that overlap, more labels than names of classes.
        """
        if "_" in self.name:
            raise ValueError(
                f"the algorithm is called {self.name!r}, but MONAI's ensembles look for the number of the fold behind "
                "the first '_'; give it a name without in algos"
            )
        source, stats = map(ConfigParser.load_config_file, (self.data_list_file, self.data_stats_files))
        chosen = {"image_size": image_size_of(stats["stats_summary"]), "sam2_checkpoint": _CHECKPOINT}
        fold = self.fill_records.get("fold", 0)
        options = {"fold": fold, **chosen, **self.options, **in_our_names(kwargs)}
        datalist = bundle_datalist(source, stats["stats_summary"], options.get("ignore_label"))
        folder = Path(output_path) / algo_name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished", dir=output_path) as temporary:
            staged = Path(temporary) / algo_name
            shutil.copytree(_CONFIGS, staged / "configs")
            change_defaults(staged / "configs", {"dataset_dir": "$@bundle_root + '/datalist.json'", **options})
            write_json(datalist, staged / "datalist.json")
            (staged / "scripts").mkdir()
            (staged / "scripts" / "infer.py").write_text(_INFER, encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            staged.rename(folder)
        self.output_path, self.fill_records = str(folder), options
        logger.info("generated: %s", folder)

    def train(
        self, train_params: dict[str, Any] | None = None, device_setting: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess:
        """
        Train the bundle, in a process of its own, which writes to where this one does.

        Args:
            train_params: options by their names here or in MONAI's algorithms, such as ``num_epochs``; they stay in the
                bundle. With ``resume``, what is there is gone on with, else it is replaced. Defaults to none.
            device_setting: as ``AutoRunner.set_device_info`` makes it. Defaults to all GPUs, or the CPU.

        Raises:
            NotImplementedError: when it is to run on several nodes.
            RuntimeError: when the training fails.
            ValueError: when an option is unknown or has a wrong value.
        """
        self.device_setting.update(device_setting or {})
        if int(self.device_setting["NUM_NODES"]) > 1:
            raise NotImplementedError(
                f"got {self.device_setting['NUM_NODES']} nodes, expected 1; to train on several, run the training of "
                f"the bundle {self.output_path} by torchrun, with its configs/multi_gpu_train.json"
            )
        root, configs = Path(self.output_path), Path(self.output_path) / "configs"
        options = in_our_names(train_params or {})
        resume = options.pop("resume", (read_json(configs / "train.json") or {}).get("resume", False))
        resume = resume and (root / "models" / "last.pt").is_file()
        change_defaults(configs, options)
        if resume and self._is_trained():
            return subprocess.CompletedProcess([], 0)
        self._score_file.unlink(missing_ok=True)
        devices = str(self.device_setting["CUDA_VISIBLE_DEVICES"])
        files = [str(configs / f"{name}.json") for name in ("train", *(["multi_gpu_train"] if "," in devices else []))]
        command = [*self._launcher(len(devices.split(","))), "-m", "monai.bundle", "run", "training"]
        command += ["--config_file", f"{files}", "--logging_file", str(configs / "logging.conf")]
        command += ["--bundle_root", str(root), "--resume", str(resume), "--overwrite", str(not resume)]
        logger.info("$ %s", shlex.join(command))
        done = subprocess.run(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": devices}, check=False)
        if done.returncode:
            raise RuntimeError(
                f"the training of {root} failed with exit code {done.returncode}; the reason stands above MONAI's last "
                "lines, which begin with 'Failed to'"
            )
        progress = TrainingCheckpoint.progress(root / "models") or {}
        if progress.get("best_metric") is None:
            raise RuntimeError(f"the training of {root} has no best network, since its Dice is NaN; check the labels")
        write_json({"best_avg_dice_score": progress["best_metric"]}, self._score_file)
        return done

    def _is_trained(self) -> bool:
        """Whether the training has ended and was scored, so that there is nothing to resume."""
        root = Path(self.output_path)
        progress = TrainingCheckpoint.progress(root / "models") or {"epoch": 0, "stopped": False}
        config = read_json(root / "configs" / "train.json") or {}
        return self._score_file.is_file() and (progress["stopped"] or progress["epoch"] >= config["epochs"])

    def _launcher(self, processes: int) -> list[str]:
        prefix = self.device_setting["CMD_PREFIX"]
        if prefix:
            return shlex.split(str(prefix))
        several = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={processes}"]
        return [sys.executable, *(several if processes > 1 else [])]

    @property
    def _score_file(self) -> Path:
        """What is there when a training has ended well."""
        return Path(self.output_path) / "models" / "score.json"

    def get_score(self, *args: Any, **kwargs: Any) -> float:
        """
        The best mean Dice of the training over the structures and cases of its fold.

        Raises:
            FileNotFoundError: when no training has ended well.
        """
        score = read_json(self._score_file)
        if score is None:
            raise FileNotFoundError(f"no {self._score_file}: {self.output_path} is not trained, or not to the end")
        return float(score["best_avg_dice_score"])
