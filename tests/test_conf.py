"""Options and their errors."""

from __future__ import annotations

import pytest

from fastchannels import conf
from fastchannels.exceptions import InvalidChannelLayerError


def test_an_unknown_option_names_the_nearest_known_one():
    with pytest.raises(InvalidChannelLayerError, match=r"SomeLayer has no CONFIG option 'capcity': did you mean 'cap"):
        conf.reject_unknown_options("SomeLayer", ["capcity"], ["capacity", "expiry"])


def test_an_option_like_no_other_lists_all():
    with pytest.raises(InvalidChannelLayerError, match=r"'zzz': it takes capacity, expiry\."):
        conf.reject_unknown_options("SomeLayer", ["zzz"], ["expiry", "capacity"])


def test_no_unknown_option_is_fine():
    conf.reject_unknown_options("SomeLayer", [], ["capacity"])
