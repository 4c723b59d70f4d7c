"""Who watches a run: progress, event log, summary, notification, exit codes."""
