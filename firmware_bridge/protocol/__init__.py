"""The bytes of the six-lead profile (PROTOCOL.md): frames, requests, descriptor, status, bulk transfer, proof of the key."""
