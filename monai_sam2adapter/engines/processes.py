# SPDX-License-Identifier: Apache-2.0
"""The start of a run of several processes."""

from __future__ import annotations

import os

import ignite.distributed as idist

__all__ = ["initialize_processes"]


def initialize_processes(backend: str) -> None:
    """
    Join the processes of a run that torchrun or SLURM has started.

    ``ignite`` numbers the processes by SLURM's tasks wherever a job of SLURM runs. Where its task is torchrun, as usual
    on several machines, these are the launchers: processes would share a number and a GPU. Then torchrun's count.

    Args:
        backend: of ``torch.distributed``, such as "nccl" or "gloo".
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        os.environ.pop("SLURM_JOB_ID", None)
    idist.initialize(backend)
