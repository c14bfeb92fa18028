"""The pictures of README and docs: `python -m tools.pictures demo|live`, and `python -m tools.pictures report FOLDER_OF_A_REPORT`.

`demo` runs the demonstration and draws what it printed (docs/images/demo.svg). `live` records from the virtual device and draws the
live view as it stood after eight seconds (docs/images/live.svg). `report` photographs the curves of a
report that `lsemvae report` wrote (docs/images/report.png); it needs the program chromium. docs/images/architecture.svg is drawn by hand.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

ROOT: Final = Path(__file__).resolve().parents[1]
IMAGES: Final = ROOT / "docs/images"
_WIDTH: Final = 108
# Pixels of the photographed part of a report: title and curves.
_PAGE: Final = (1100, 860)


def demo() -> Path:
    """Run the demonstration and write its last screen as SVG."""
    from rich.console import Console
    from rich.text import Text

    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-m", "edge_app", "demo", "--speed", "20"],
            env={**os.environ, "LSEMVAE_HOME": home, "COLUMNS": str(_WIDTH)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        said = done.stdout.replace(home, "demo-data")
    console = Console(record=True, width=_WIDTH, file=io.StringIO())
    console.print(Text("$ make demo", style="bold"))
    for line in said.rstrip().splitlines():
        head = line.partition(":")[0]
        style = "bold green" if head in ("DETECTED", "NOT DETECTED", "ABSTAIN") else ""
        console.print(Text(line, style=style))
    return _write(console, "edge_app demo", IMAGES / "demo.svg")


def live() -> Path:
    """Record the demonstration's ECG from the virtual device and write what the live view showed after eight seconds as SVG."""
    import asyncio

    from rich.console import Console, RenderableType

    from edge_app import record_session
    from edge_app.commands.live_view import LiveView
    from edge_app.demo import demo_recording, demo_transport
    from edge_app.session.events import Progress
    from lsemvae.terminal.strip import StripStyle

    style = StripStyle(width=_WIDTH, unicode=True)
    shown: list[RenderableType] = []
    with LiveView("Recording", plain=False) as view:

        def draw(progress: Progress) -> None:
            if progress.elapsed_s >= 8.0 and not shown:
                shown.append(view.picture(progress, style=style))

        recording = demo_recording()
        asyncio.run(
            record_session(
                demo_transport(recording, speed=4.0),
                seconds=10.0,
                allow_unauthenticated=True,
                pace=4.0,
                on_progress=draw,
                on_frame=view.on_frame,
            )
        )
    console = Console(record=True, width=_WIDTH, file=io.StringIO())
    console.print(shown[0])
    return _write(console, "edge_app devices record", IMAGES / "live.svg")


def _write(console: Console, title: str, path: Path) -> Path:
    """Write what a console recorded as SVG that loads no font from the network: every system has a monospaced one."""
    kept, inside = [], False
    for line in console.export_svg(title=title).splitlines():
        inside = inside or line.strip().startswith("@font-face")
        if not inside:
            kept.append(line.rstrip())
        inside = inside and line.strip() != "}"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def report(folder: Path) -> Path:
    """Photograph a report: its first statement and its curves."""
    from PIL import Image

    text = (folder / "report.html").read_text(encoding="utf-8")
    before, _, rest = text.partition("<nav>")
    curves = rest[rest.index('<section id="s4">') : rest.index('<section id="s5">')]
    end = rest[rest.rindex("</section>") + len("</section>") :]
    with tempfile.TemporaryDirectory() as place:
        page, shot = Path(place) / "page.html", Path(place) / "page.png"
        page.write_text(before + curves + end, encoding="utf-8")
        subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--window-size={_PAGE[0]},{_PAGE[1]}", f"--screenshot={shot}", page.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        picture = Image.open(shot).convert("RGB")
    path = IMAGES / "report.png"
    picture.quantize(48).save(path, optimize=True)
    return path


def main() -> None:
    """Make one picture."""
    if sys.argv[1:] in (["demo"], ["live"]):
        made = demo() if sys.argv[1] == "demo" else live()
    elif len(sys.argv) == 3 and sys.argv[1] == "report":
        made = report(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
    sys.stdout.write(f"{made.relative_to(ROOT)}: {made.stat().st_size >> 10} KiB\n")


if __name__ == "__main__":
    main()
