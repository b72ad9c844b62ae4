# SPDX-License-Identifier: Apache-2.0
"""Commands of many trainings, which may be stopped and run again."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType

__all__ = ["run_resumable"]


def run_resumable(work: Callable[[Callable[[str], None]], Mapping[str, str]]) -> int:
    """
    Run the trainings of a command, and end them, too, when it is interrupted or terminated.

    Args:
        work: is given what takes lines about the progress, and returns the reasons of what failed.

    Returns:
        exit code: 0 when all went well, 1 when something failed, 130 when it was stopped.
    """
    # what data lists and injections tell of themselves is for a single run
    logging.getLogger("monai_sam2adapter").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, _stop)
    try:
        errors = work(partial(print, flush=True))
    except KeyboardInterrupt:
        print("Stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    for name, reason in errors.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if errors else 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
