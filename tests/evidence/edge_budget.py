"""Measure what it costs to import the app and open the shipped bundle, in fresh processes; exits 1 above a bar.

    python tests/evidence/edge_budget.py [RUNS]

Each run is a new interpreter that opens the shipped bundle with its model and self-test, as `edge_app screen` does
before it reads a file. Only `resource.getrusage` of that process is looked at: processor time (user and system, so other
programs on the machine hardly matter) and the high-water mark of resident memory. The bars hold for the fastest run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

RUNS = 5
MAX_CPU_MS = 350.0
MAX_RSS_MIB = 90.0
FORBIDDEN = (
    "torch", "scipy", "pandas", "matplotlib", "sklearn", "bleak", "pydicom", "lsemvae.data", "lsemvae.model", "lsemvae.train",
    "lsemvae.evaluate", "export",
)  # fmt: skip

PROBE = """
import json, resource, sys
from lsemvae.screen.bundle import open_bundle
open_bundle()
checked = resource.getrusage(resource.RUSAGE_SELF)
from lsemvae.screen.screener import open_screener
open_screener()
ready = resource.getrusage(resource.RUSAGE_SELF)
def figures(usage):
    return {"cpu_ms": 1e3 * (usage.ru_utime + usage.ru_stime), "rss_mib": usage.ru_maxrss / 1024}
print(json.dumps({"open": figures(checked), "ready": figures(ready), "modules": sorted(sys.modules)}))
"""


def measure() -> dict[str, Any]:
    """Run the probe in a fresh interpreter."""
    # A child starts with its parent's high-water mark on Linux, so the parent must stay small: it imports nothing.
    process = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return dict(json.loads(process.stdout))


def forbidden_in(modules: list[str]) -> list[str]:
    """Return the modules that an edge process must not load."""
    return [name for name in modules if any(name == room or name.startswith(f"{room}.") for room in FORBIDDEN)]


def main(arguments: list[str]) -> int:
    """Measure, print, compare with the bars."""
    runs = [measure() for _ in range(int(arguments[0]) if arguments else RUNS)]
    steps = (("open", "import, open and check the bundle"), ("ready", "the same, model loaded and self-tested"))
    for step, words in steps:
        for unit in ("cpu_ms", "rss_mib"):
            values = [run[step][unit] for run in runs]
            print(f"{words}: {unit} min {min(values):.1f}, median {statistics.median(values):.1f}")
    found = sorted({name for run in runs for name in forbidden_in(run["modules"])})
    print(f"forbidden modules loaded: {', '.join(found) or 'none'}")
    cpu_ms = min(run["open"]["cpu_ms"] for run in runs)
    rss_mib = min(run["ready"]["rss_mib"] for run in runs)
    over = cpu_ms > MAX_CPU_MS or rss_mib > MAX_RSS_MIB
    print(
        f"bars: {cpu_ms:.0f} of {MAX_CPU_MS:g} ms to import and open, {rss_mib:.1f} of {MAX_RSS_MIB:g} MiB with the model"
        f" -> {'EXCEEDED' if over else 'kept'}"
    )
    return 1 if over or found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
