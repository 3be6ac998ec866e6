"""Records what requests cost: python -m tests.bytecodes.record"""

import json
import sys

from tests.bytecodes.loads import LOADS, per_request
from tests.bytecodes.test_bytecodes import RECORDED


def main() -> None:
    """Write the counts for this version of Python beside those for others."""
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    counts = {load: round(per_request(load), 1) for load in LOADS}
    recorded[f"{sys.version_info.major}.{sys.version_info.minor}"] = counts
    RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    for load, count in counts.items():
        print(f"{load}: {count:,.0f}")


if __name__ == "__main__":
    main()
