"""Pre-train, fine-tune, distil: resumable stages that leave a run folder each."""
