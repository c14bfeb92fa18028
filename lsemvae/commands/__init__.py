"""The commands of `lsemvae`; each loads what it needs when it runs."""
