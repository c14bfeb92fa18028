"""What lies between app and device in a test: a radio with faults, a bus, a serial line."""
