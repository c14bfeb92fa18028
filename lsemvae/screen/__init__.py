"""Bundle and recording to outcome: manifest, trust, runtimes, self-test, screener. The one way for clinic, exporter and laboratory."""
