"""A device on a serial line: the port and the transport over it."""
