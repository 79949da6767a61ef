"""Channel layers in Redis."""

try:
    import hiredis  # noqa: F401
    import redis  # noqa: F401
except ModuleNotFoundError as error:
    text = f"the Redis layers need the package {error.name}: pip install fastchannels[redis]"
    raise ModuleNotFoundError(text, name=error.name) from error

from fastchannels.layers.redis.compat import RedisCompatChannelLayer
from fastchannels.layers.redis.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer", "RedisCompatChannelLayer"]
