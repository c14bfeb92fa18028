"""What both command lines print with: console, options, views of results and bundles."""
