"""Bar charts of the results. Without matplotlib there are none."""

import statistics
import sys
from pathlib import Path
from typing import Any

_COLORS = {
    "tercel": "#0b6e4f",
    "hypercorn": "#c98b2b",
    "sanic": "#c2527c",
    "nginx": "#4d7ea8",
    "uvicorn": "#7a5ea8",
    "granian": "#8a8a8a",
    "aioquic": "#b5b04a",
    "peregrine": "#b3452c",
    "pyvoy": "#2f9c95",
}
_LABELS = {"nginx": "nginx + uvicorn", "aioquic": "aioquic's own"}
_TITLES = {
    "3": "HTTP/3",
    "1-plain": "HTTP/1.1",
    "1": "HTTP/1.1 with TLS",
}


def write(results: dict[str, Any], directory: Path, name: str) -> None:
    """Charts of CPU relative to tercel's: `name`-http3.png and so on, one per HTTP version.

    `name`-chief.png has the chief scenarios of all.
    """
    try:
        import matplotlib
    except ImportError:
        print("no charts: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("Agg")
    for http, file in (("3", "http3"), ("1-plain", "http1"), ("1", "http1-tls")):
        rows = [row for row in results["scenarios"] if row["http"] == http and _ratios(row)]
        if rows:
            _chart(rows, _TITLES[http], directory / f"{name}-{file}.png")
    chief = [
        row | {"title": f"{_TITLES[row['http']]}: {row['title']}"}
        for row in results["scenarios"]
        if row.get("chief") and _ratios(row)
    ]
    if chief:
        _chart(chief, "tercel and others", directory / f"{name}-chief.png")


def _chart(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    from matplotlib import pyplot

    height = sum(len(_ratios(row)) + 0.8 for row in rows)
    figure, axes = pyplot.subplots(figsize=(9, 0.26 * height + 1.0))
    y, ticks = 0.0, []
    for row in rows:
        ratios = _ratios(row)
        ticks.append((y + (len(ratios) - 1) / 2, row["title"]))
        for server, ratio in ratios.items():
            label = f"{_LABELS.get(server, server)}  {ratio:.2f}"
            axes.barh(y, ratio, color=_COLORS.get(server, "#555555"), height=0.86)
            axes.annotate(
                label, (ratio, y), xytext=(4, 0), textcoords="offset points", va="center", size=7
            )
            y += 1
        y += 0.8
    axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks], size=8)
    axes.invert_yaxis()
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.margins(x=0.35, y=0.01)
    axes.set_xlabel("CPU time of the server per unit of work, tercel = 1 (less is better)", size=8)
    axes.set_title(title, size=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=144)
    pyplot.close(figure)


def _ratios(row: dict[str, Any]) -> dict[str, float]:
    """Each server's median CPU as a multiple of tercel's; none when it stands alone."""
    medians = {
        name: statistics.median(figures["cpu_us"])
        for name, figures in row["servers"].items()
        if figures and figures["cpu_us"]
    }
    base = medians.get("tercel")
    if not base or len(medians) < 2:
        return {}
    return {name: value / base for name, value in medians.items()}
