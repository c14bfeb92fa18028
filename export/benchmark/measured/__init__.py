"""Figures measured on a machine: here, or over SSH on a board."""
