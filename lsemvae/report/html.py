"""Documents as one HTML file: no script, no network, pictures inside, made for light, dark and paper; and Markdown from templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lsemvae.report.blocks import MISSING, Document, Plot
from lsemvae.report.pictures import as_png


@cache
def templates() -> Environment:
    """Return the templates of this package; in a page every text is escaped, and a name that nobody gave is an error."""
    environment = Environment(
        loader=PackageLoader("lsemvae.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # JSON is YAML; the filter that Jinja brings escapes for pages.
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.filters["figure"] = lambda value, digits=3: MISSING if value is None else f"{value:.{digits}f}"
    environment.filters["interval"] = lambda three: (
        "{:.3f} ({:.3f} to {:.3f})".format(*three) if three and three[0] is not None else MISSING
    )
    return environment


def html_page(document: Document, *, picture: Callable[[Plot], Markup] = as_png) -> str:
    """Return the document as a page; `picture` makes the element of a plot (`pictures.as_png`, `pictures.as_svg`)."""
    return templates().get_template("page.html").render(document=document, picture=picture)


def markdown(template: str, **facts: Any) -> str:
    """Return a Markdown template of this package, filled with `facts`."""
    return templates().get_template(template).render(**facts)
