"""The virtual device: the C core through cffi and its mirror in Python, memory, front end, signal source."""
