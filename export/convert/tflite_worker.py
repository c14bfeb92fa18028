"""What runs in the converter's own process: `python -m export.convert.tflite_worker RUN_DIR OUT`.

litert-torch loads jax and prints pages; in a process of its own neither the memory nor the noise reaches the caller.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Convert the student of a run folder to a float32 `.tflite` file with its module paths as tensor names."""
    run_dir, out = Path(arguments[0]), Path(arguments[1])
    warnings.simplefilter("ignore")  # here only: the caller logs what this process says
    from export.student_run.graph import build_graph, example_input
    from export.student_run.source import load_run

    run = load_run(run_dir)
    n_leads, n_samples = len(run.leads), run.n_samples
    graph = build_graph(run.student, n_leads=n_leads, n_samples=n_samples, named=True)
    example = example_input(n_leads=n_leads, n_samples=n_samples)
    import litert_torch  # last: it takes seconds, and a run that cannot be exported fails before

    litert_torch.convert(graph, sample_kwargs={"ecg": example}).export(str(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
