"""The device: PROTOCOL.md, frames and bytes of the six-lead profile, reassembly into records, and a virtual device (`sim`)."""
