"""Learning takes thousands of calls, whose shapes other tests have checked: `@pytest.mark.usefixtures("unchecked")`."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
