"""One writer for what the laboratory writes down: blocks (text, tables, plots) become HTML, PDF or Markdown."""
