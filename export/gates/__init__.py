"""What an exported model must pass: operators, parity, latency, size; and the golden recordings."""
