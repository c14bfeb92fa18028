"""The page that says how an export went: facts, gates, origin, plots."""
