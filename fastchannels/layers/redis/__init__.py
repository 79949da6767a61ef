"""Channel layers in Redis."""

from fastchannels.layers.redis.compat import RedisCompatChannelLayer
from fastchannels.layers.redis.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer", "RedisCompatChannelLayer"]
