"""The page itself: its own small assets, and the plotting library from the installed package."""

from importlib.resources import files
from pathlib import Path

# Everything the page consists of, in `cluster/report/assets`.
PAGE = "index.html"
ASSETS = (
    "icon.svg",
    "balmer.css",
    "views.css",
    "core.js",
    "save.js",
    "text.js",
    "search.js",
    "figures.js",
    "rows.js",
    "catalogue.js",
    "controls.js",
    "overview.js",
    "points.js",
    "mapview.js",
    "maplabels.js",
    "mapcolours.js",
    "mapside.js",
    "map.js",
    "list.js",
    "members.js",
    "clusterfigures.js",
    "cluster.js",
    "token.js",
    "compare.js",
    "app.js",
)


def write_site(folder: Path) -> None:
    """Write index.html and assets/ into the report's folder."""
    from plotly.offline import get_plotlyjs

    own = files("cluster.report") / "assets"
    (folder / "assets").mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_bytes((own / PAGE).read_bytes())
    for name in ASSETS:
        (folder / "assets" / name).write_bytes((own / name).read_bytes())
    (folder / "assets" / "plotly.min.js").write_bytes(get_plotlyjs().encode())
