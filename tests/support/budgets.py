"""What a server's log says of the budgets of its connections."""

import re


def logged_peaks(log: str) -> list[dict[str, float]]:
    """Of each connection that ended: what it used of each burst, where it was over a hundredth."""
    return [
        {name: int(share) / 100 for name, share in re.findall(r"(\w+) (\d+)%", peaks)}
        for peaks in re.findall(r"peaks of budgets: (.*)", log)
    ]
