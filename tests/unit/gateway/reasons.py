"""Expecting that the gateway does not serve, for one reason."""

import pytest

from libs.common.reasons import Reason
from services.gateway.errors import NotServed


def not_served(reason: Reason, *, match: str | None = None) -> pytest.RaisesExc[NotServed]:
    return pytest.raises(NotServed, match=match, check=lambda error: error.reason is reason)
