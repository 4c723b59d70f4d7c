"""What the process ends with."""

EXIT_COMPLETE = 0
EXIT_ROWS_WITHOUT_TOKEN = 1
EXIT_NOTHING_SENT = 2
EXIT_KEY_REFUSED = 3
EXIT_STOPPED_EARLY = 4
EXIT_SIGNAL = 128  # and the signal's number
