"""Weak references to bound methods, for callbacks."""

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `method` without a strong reference to its object; only to be called while that exists.

    An object that owns what holds its methods is part of a reference cycle: dead connections would
    pile up, with all that they hold, until the garbage collector runs.
    """
    # As weakref's WeakMethod, which costs a connection five times as much.
    bound: Any = method
    owner, function = weakref.ref(bound.__self__), bound.__func__

    def call(*arguments: Any) -> Any:
        known = owner()
        assert known is not None  # noqa: S101  # what it owns is called by nobody else
        return function(known, *arguments)

    return call
