# SPDX-License-Identifier: Apache-2.0
"""Waiting for what must come. It may take long on a slow machine, so nothing here is short."""

import time

PATIENCE = 60.0


def wait_for(what, condition, seconds=PATIENCE):
    """The first true value of condition()."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return value
