"""Methods that an object hands to what it owns."""

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, without keeping the object that it is bound to; called while that is there.

    What a connection owns and what knows its methods is a ring with it: dead connections would
    pile up, with all that they hold, until the garbage collector comes.
    """
    # As weakref's WeakMethod, which costs a connection five times as much.
    bound: Any = method
    owner, function = weakref.ref(bound.__self__), bound.__func__

    def call(*arguments: Any) -> Any:
        known = owner()
        assert known is not None  # noqa: S101  # what it owns is called by nobody else
        return function(known, *arguments)

    return call
