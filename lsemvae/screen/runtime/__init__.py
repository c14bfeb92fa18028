"""The model of a bundle on whichever runtime the machine has."""
