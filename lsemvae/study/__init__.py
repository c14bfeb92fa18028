"""The evidence: bundle, table, sizes and report of the study, from one resumable command."""
