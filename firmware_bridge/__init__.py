"""The device: PROTOCOL.md, bytes of the six-lead profile, reassembly into records, and a virtual device (`sim`)."""
