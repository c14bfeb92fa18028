"""Recordings: readers, the record store that training reads, splits by patient, augmentation."""
