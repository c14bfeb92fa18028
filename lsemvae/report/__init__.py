"""One writer of HTML, PDF and plots for the evaluation report, the export page and the card."""
