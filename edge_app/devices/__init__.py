"""What the commands about devices need beside a session: the way to a device, its description, a live view, a simulator."""
