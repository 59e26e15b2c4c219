"""Self-contained HTML pages: of a run, of a comparison, of a study. Python here; what runs in the browser in
browser/."""
