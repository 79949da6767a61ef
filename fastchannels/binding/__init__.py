"""Changes of Django's models sent to groups, and changes that clients ask for."""

from fastchannels.binding.base import Binding

__all__ = ["Binding"]
