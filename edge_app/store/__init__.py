"""What stays on the disk: recordings and results, the data folder, clock and identifiers, newest bundle versions."""
