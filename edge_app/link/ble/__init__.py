"""Bluetooth LE: a transport for the own profile, a port for other makers' devices, scan, pairing, the bus."""
