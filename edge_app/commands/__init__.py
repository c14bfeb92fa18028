"""The commands of `edge_app`, one module a group; `edge_app.cli` puts them together."""
