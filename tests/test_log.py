import logging

import pytest

from fastchannels.log import handler, setup_logger


@pytest.mark.parametrize(("verbosity", "level"), [(0, logging.INFO), (1, logging.INFO), (2, logging.DEBUG)])
def test_a_logger_that_writes_once(verbosity, level):
    logger = setup_logger("tests.log", verbosity)
    assert setup_logger("tests.log", verbosity) is logger
    assert logger.level == level
    assert logger.handlers.count(handler) == 1
    assert not logger.propagate
