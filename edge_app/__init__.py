"""The clinic: reads a handheld six-lead device, screens offline, stores every record."""
