"""The signed bundle: files, manifest, key."""
