"""Level 3 of the test radio: a real kernel and a real bluetoothd in an emulated machine. See docs/explanation/level3.md."""
