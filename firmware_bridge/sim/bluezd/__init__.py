"""A user-space ``org.bluez``: D-Bus on one side, a Bumble central on the other.

It offers what a central needs (Adapter1, Device1, GattService1, GattCharacteristic1) and behaves like bluetoothd where
that matters to an application: notifications are registered per D-Bus sender and survive a lost link, so that a client
which never closes its bus gets every later notification twice.
"""
