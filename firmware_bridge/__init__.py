"""The device: frames and bytes of the E6L profile, reassembly into records, and a virtual device."""
