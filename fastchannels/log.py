"""Logging for commands of one's own, as Channels 1.x had it. Ours use Django's ``LOGGING``."""

from __future__ import annotations

import logging

__all__ = ["setup_logger"]

handler = logging.StreamHandler()


def setup_logger(name: str, verbosity: int = 1) -> logging.Logger:
    """The logger ``name``, writing to standard error: information, and from ``verbosity`` 2 on debugging too."""
    handler.setFormatter(logging.Formatter("%(asctime)s - %(levelname)s - %(module)s - %(message)s"))
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    return logger
