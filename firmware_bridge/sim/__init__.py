"""A virtual six-lead device and a test radio; nothing here is imported by the rest of the bridge.

The device (`device`) needs numpy only, and a C compiler and cffi for its core in C. The radio (`air`, `bluezd`; `server` runs it as a
process) needs the extra ``sim`` and the program dbus-daemon.
"""
