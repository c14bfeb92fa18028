"""How ONNX Runtime is set up, in the clinic, in the exporter's gates and in a benchmark alike.

Standard library only and Python 3.9, because `lsemvae benchmark --ssh` copies this one file to a board.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Severity 3 = errors only: the start-up warnings about an unknown CPU vendor tell an operator nothing.
_LOG_ERRORS_ONLY = 3


def session_options(onnxruntime: Any, threads: int) -> Any:
    """Return the options of a session on the CPU that gives the same INT8 results on every processor.

    Parameters
    ----------
    onnxruntime
        The module; it is not imported here.
    threads
        Threads of one inference.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    if not has_vnni(cpuinfo):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def has_vnni(cpuinfo: str) -> bool:
    """Return whether a processor adds INT8 products in 32 bits, from the text of its `/proc/cpuinfo`.

    x86 without VNNI adds pairs of them in 16 bits, which overflow: there the slower kernels are asked for, which do not. With
    VNNI these would take three times as long for the same bits. Elsewhere the setting means nothing.
    """
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))
