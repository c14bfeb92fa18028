"""From frames to a recording: order, gaps, clock, drift, lead-off, Einthoven's law. Pure: no clock of its own, no input or output."""
