"""The model: per-lead encoders, hierarchical fusion, lead-conditioned decoder, heads, and the edge student."""
