"""The notification log: every received byte with its time, written, read, and played again."""
