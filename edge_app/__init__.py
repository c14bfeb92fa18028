"""The clinic side: bundle check, runtimes, link, sessions, store and the `edge_app` command.

Importing this package runs no code and loads no third-party module; each command loads what it needs.
"""
