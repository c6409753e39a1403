"""Live statistics: every table of a study at any moment, and its revision as it moves."""
