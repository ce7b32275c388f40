"""From the numbers of a run to `report.json`, `report.html`, figures and a table."""
