"""Consumers as classes."""

from fastchannels.generic.base import BaseConsumer

__all__ = ["BaseConsumer"]
