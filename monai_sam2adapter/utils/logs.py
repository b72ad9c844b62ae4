# SPDX-License-Identifier: Apache-2.0
"""Loggers that let no name of a file forge a line or control a terminal."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from .text import printable

__all__ = ["escaping_logger", "warn_once"]


class _EscapeArguments(logging.Filter):
    """Arguments of a message come from outside: they stay in their line. The message itself may have several."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_escaped, record.args))
        if isinstance(record.msg, str):
            record.msg = "\n".join(map(printable, record.msg.split("\n")))
        return True


_ESCAPE = _EscapeArguments()  # one, so that a logger gets it once


def escaping_logger(name: str) -> logging.Logger:
    """
    The logger of a module, which writes names and errors given as arguments, as in ``logger.info("%s failed", name)``,
    as :py:func:`monai_sam2adapter.utils.printable` has them.

    Args:
        name: ``__name__`` of the module.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_ESCAPE)
    return logger


@functools.lru_cache(maxsize=10_000)
def warn_once(logger: logging.Logger, file: str, text: str) -> None:
    """Log a warning of a file, ``<file> <text>``, unless it was logged before; a training reads its files often."""
    logger.warning("%s %s", file, text)


def _escaped(argument: Any) -> Any:
    return printable(argument) if isinstance(argument, (str, os.PathLike, BaseException)) else argument
