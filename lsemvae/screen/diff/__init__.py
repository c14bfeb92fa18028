"""What changes on a board when one bundle replaces another."""
