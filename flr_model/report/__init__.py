"""The report of a run for people: one HTML file, drawn from its saved evaluation."""
