# SPDX-License-Identifier: Apache-2.0
import pytest

from lib.holm_image import Store


@pytest.fixture
def store():
    s = Store()
    yield s
    s.close()
