"""The report of a study: one HTML file with methods, tables, figures and a checklist."""
