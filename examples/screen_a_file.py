"""From a file to one of four outcomes: `python examples/screen_a_file.py recording.ecg.npz` (also .csv, WFDB .hea, DICOM)."""

import sys

from lsemvae import open_screener, read_record

result = open_screener().screen(read_record(sys.argv[1]))
print(f"{result.decision.outcome}: {result.output_description}")
print(f"probabilities: {result.probabilities}")
print(result.label_statement)
