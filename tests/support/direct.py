"""How the client of the websockets library is kept from looking for a proxy."""

import inspect
from typing import Any

from websockets.asyncio.client import connect

# It looks for one since its version 15.
_KNOWS_PROXIES = "proxy" in inspect.signature(connect.__init__).parameters

DIRECT: dict[str, Any] = {"proxy": None} if _KNOWS_PROXIES else {}
"""Arguments of `connect`."""
