"""The report: `report.html` of a run, one self-contained page."""
