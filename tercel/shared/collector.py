"""Tunes the cyclic garbage collector for a process that only serves."""

import gc

# Allocations beyond frees until the youngest objects are looked at, and how many such rounds until
# older ones are. Python's 700 objects are those of some twenty requests in flight, which are no
# garbage yet: of the CPU time of small requests over HTTP/3 it was 10 %, and is under 1 % so.
_THRESHOLDS = (5_000, 20, 20)
_PYTHONS = (700, 10, 10)


def settle_collector() -> None:
    """Collect once, freeze the remaining objects, and collect less often from now on.

    For a process that has loaded all it needs. Thresholds that were set before are kept.
    """
    gc.collect()
    # Modules, classes and the application stay for ever: each full collection went over all of
    # them, 70 milliseconds for a small application, in which nobody is served.
    gc.freeze()
    if gc.get_threshold()[:2] == _PYTHONS[:2] and gc.isenabled():
        gc.set_threshold(*_THRESHOLDS)
