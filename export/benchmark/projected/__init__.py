"""Figures projected for a board that is not there, from instruction counts and published measurements."""
