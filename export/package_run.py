"""Making the packaged student: a run folder without paths, beside the bundle that it exports to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from export.errors import ExportTargetError
from export.job import CALIBRATION_FILE, WORK_FOLDER
from export.release.bundle import check_private
from export.report import json_bytes, without_folders
from export.student_run.packaged import work_folder
from export.student_run.source import parse_json
from lsemvae.formats.whole import write_whole

_COPIED: Final = ("model.safetensors", "decision.json", "bundle.json", "card.md", "curves.png", "tasks.json")
# Values that name folders: where the store lay, and which runs the student was distilled from.
_OF_THE_MACHINE: Final = ("store", "teacher", "student", "teachers")


def package_run(run_dir: Path, out: Path) -> Path:
    """Copy what an export needs of a run folder to `out`, without a path of this machine; `out` must not exist.

    The calibration recordings of the run's last export go with it, so that an export of the copy makes the same INT8 file.
    """
    if out.exists():
        raise ExportTargetError(f"{out} is there already; expected a free name", advice="Name another folder.")
    config, run = (
        {key: value for key, value in parse_json(run_dir / name).items() if key not in _OF_THE_MACHINE}
        for name in ("config.json", "run.json")
    )
    files = {name: (run_dir / name).read_bytes() for name in _COPIED if (run_dir / name).is_file()}
    files["config.json"] = json_bytes(config)
    files["run.json"] = json_bytes({**run, "command": without_folders(str(run.get("command", "")))})
    files[CALIBRATION_FILE] = (work_folder(run_dir, name=WORK_FOLDER) / CALIBRATION_FILE).read_bytes()
    check_private(files, extra=(run_dir,))
    out.mkdir(parents=True)
    try:
        for name, content in files.items():
            write_whole(out / name, content)
    except OSError:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return out
