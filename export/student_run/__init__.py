"""The run that is exported: configuration, weights, identity, recordings, graph."""
