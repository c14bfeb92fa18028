"""Plots as files: PNG for many points, SVG for few; the same plot gives the same bytes."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

from lsemvae.report.blocks import Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any common colour vision.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DPI: Final = 130
_LABELS_ARE: Final = "Labels: statements of ECG readers, not pulmonary hypertension"
# Names come from strangers' files: a dollar sign is no mathematics, and text stays text that can be searched.
# A fixed salt names clip paths after their content.
STYLE: Final[Any] = {"text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "lsemvae"}


def png(plot: Plot) -> bytes:
    """Return the plot as a PNG that says what the labels are."""
    out = io.BytesIO()
    figure = _drawn(plot, dpi=DPI)
    figure.suptitle(_LABELS_ARE, fontsize=8, color="0.35")
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def as_png(plot: Plot) -> Markup:
    """Return an HTML image with the PNG inside."""
    data = base64.b64encode(png(plot)).decode("ascii")
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(plot.alt, data)


def as_svg(plot: Plot) -> Markup:
    """Return an SVG element for a page that may be light or dark: what is black takes the colour of the page's text."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context(STYLE):
        figure = _drawn(plot, dpi=72)
        figure.patch.set_visible(False)
        for axes in figure.axes:
            axes.patch.set_facecolor("none")
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawn = out.getvalue().partition("<defs>")[2].rpartition("</svg>")[0]
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<[^>]*>", lambda tag: _spare(tag[0]), drawn)
    drawn = re.sub(r">\s*\n\s*<", "><", drawn)
    lone = r"<g/>|<g>((?:<(\w+) [^>]*/>|<text [^>]*>[^<]*</text>)?)</g>"
    while (fewer := re.sub(lone, r"\1", drawn)) != drawn:
        drawn = fewer
    wide, high = plot.size_in
    return Markup(
        f'<svg viewBox="0 0 {72 * wide:g} {72 * high:g}" width="{96 * wide:.0f}" height="{96 * high:.0f}" role="img" '
        f'aria-label="{escape(plot.alt)}"><defs>{drawn}</svg>'
    )


def _spare(tag: str) -> str:
    """Return a tag of matplotlib's SVG without what changes nothing on a screen, which is most of it.

    Names of groups, to which nothing refers; the font, as the page has one; joins and caps of lines; turns by nothing; and digits
    beyond a tenth of a pixel.
    """
    tag = re.sub(r"\s+", " ", tag)
    if tag.startswith(("<g ", "<text ", "<image ")):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r" ?(?:font-family|stroke-linejoin|stroke-linecap|stroke-dashoffset): [^;\"]*;?", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    if "href=" not in tag:
        tag = re.sub(r"(?<![\w.])(?<!opacity: )(\d+\.\d)\d+", r"\1", tag)
        tag = re.sub(r"(\d)\.0\b", r"\1", tag)
        tag = re.sub(r"(?<=[MLCQz]) | (?=[MLCQz][ \d\"-])", "", tag)
    for long, short in (("base64, ", "base64,"), ("; ", ";"), (": ", ":"), ("#000000", "currentColor")):
        tag = tag.replace(long, short)
    return tag


def _drawn(plot: Plot, *, dpi: int) -> Figure:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=plot.size_in, dpi=dpi, layout="constrained")
        FigureCanvasAgg(figure)
        plot.draw(figure)
    return figure
