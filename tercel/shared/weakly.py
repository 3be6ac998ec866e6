"""Methods that an object hands to what it owns."""

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, without keeping the object that it is bound to; called while that is there.

    What a connection owns and what knows its methods is a ring with it: dead connections would
    pile up, with all that they hold, until the garbage collector comes.
    """
    known = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        bound = known()
        assert bound is not None  # noqa: S101  # what it owns is called by nobody else
        return bound(*arguments)

    return call
