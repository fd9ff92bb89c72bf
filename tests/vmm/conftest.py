# SPDX-License-Identifier: Apache-2.0
import pytest

from lib.vmm import Machine


@pytest.fixture
def machine(tmp_path):
    """Makes machines, which are ended after the test."""
    made = []

    def make(script, *args, folder=tmp_path, **kw):
        made.append(Machine(folder, script, *args, **kw))
        return made[-1]

    yield make
    for m in made:
        m.close()
