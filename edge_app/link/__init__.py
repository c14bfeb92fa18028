"""The way to a device: one `Transport` protocol, spoken over Bluetooth or to a virtual device in the same process."""
