"""Excel workbooks, read straight from their XML: stored digits, number formats, hidden rows."""
