"""A virtual six-lead device and a test radio; nothing here is imported by the rest of the bridge.

The device core (`device`), its signal (`source`), faults (`faults`) and pace (`player`) need numpy only; the radio
(`peripheral`, `bluezd`, `radio`, `server`) needs the extra ``sim`` and the program dbus-daemon.
"""
