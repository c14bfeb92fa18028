"""ECG files to records: one file a format, chosen by content."""
