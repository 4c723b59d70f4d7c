"""What the help of each command shows before and after its flags; that of the program is under the blank name."""

from __future__ import annotations

EXAMPLES = {
    "": """\
examples:
  batch-issuer issue sample_inputs/depot_clean.csv --sandbox
                                        try it: no account, no API token
  batch-issuer check depot.csv          check a roster, request nothing
  batch-issuer issue depot.csv          the main job: writes depot.results.csv
  batch-issuer retry depot.results.csv  finish it, or renew expired tokens
  batch-issuer status depot.results.csv
""",
    "check": """\
examples:
  batch-issuer check depot.csv
  batch-issuer check drivers.xlsx --sheet North --map driver_id="Driver No."
  batch-issuer check --all                          rehearse a nightly run
""",
    "issue": """\
examples:
  batch-issuer issue depot.csv                   writes depot.results.csv
  batch-issuer issue depot.xlsx -o tonight.xlsx
  batch-issuer issue depot.csv --region eu --burst 50
  batch-issuer issue - -o depot.results.csv < depot.csv
  batch-issuer issue depot.csv --org north       an organization of the settings
  batch-issuer issue --all --overwrite --quiet   all of them, every night
""",
    "retry": """\
examples:
  batch-issuer retry depot.results.csv
  batch-issuer retry depot.results.csv --min-validity 10m
""",
    "purge": """\
example:
  batch-issuer purge depot.results.csv
""",
    "status": """\
examples:
  batch-issuer status depot.results.csv
  batch-issuer status depot.results.csv --json
""",
    "config": """\
examples:
  batch-issuer config
  batch-issuer config --org north --rate 50/min
""",
    "quota": """\
examples:
  batch-issuer quota
  batch-issuer quota --region eu --quota redis://quota.example.com/0
""",
    "help": """\
examples:
  batch-issuer help                 list the pages
  batch-issuer help first-time
  batch-issuer help issue           same as batch-issuer issue --help
""",
    "sandbox": """\
examples:
  batch-issuer sandbox --port 8080
  batch-issuer sandbox --limiter fixed --limit 100 --per 6s --latency 50ms-150ms
  batch-issuer sandbox --fault reset=0.05 --fault 503=0.1
  batch-issuer sandbox --script 'ok*50,401*'        revoke the API token midway
""",
}

NOTES = {
    "": """\
The API token comes from the environment variable SAMSARA_API_TOKEN, from a
file or from a command (--token-file, --token-command). Settings are read from
batch-issuer.toml, here or in the user config directory; flags override them.

exit codes:
  0  every row has a token        3  the API token was refused
  1  some rows have none          4  stopped early (network, quota, deadline)
  2  nothing was sent             130, 143  stopped by a signal
with several organizations, the first of 130, 143, 3, 2, 4, 1, 0 that occurs

batch-issuer COMMAND --help shows the flags of a command, and batch-issuer help
lists the pages of the manual.
""",
    "check": """\
Without ROSTER, checks the one in the settings. Exit code 0: every row can be
sent; 1: some cannot; 2: the roster cannot be used.
""",
    "issue": """\
Without ROSTER, issues for the one in the settings. The results file contains
login tokens: only you can read it, and it should stay so.
Ctrl-C stops cleanly; a second Ctrl-C exits at once. To resume an interrupted
run, repeat the command or use retry.
""",
    "retry": """\
Requests a token for every row without one that stays valid long enough, and
updates the file in place; other columns, order and separator stay. You may
correct cells in the file first. Rows never sent before need the same --map,
--external-key and --identify-by as issue. With nothing to do, exit code 0.
""",
    "purge": """\
Everything else in the file stays. Exit code 2: it is not a results file.
""",
    "status": """\
Shows no token. Also works while a run is in progress, or after it was
interrupted. Exit code 0: every row has a valid token; 1: some have none;
2: it is not a results file.
""",
    "config": """\
Reads the same file and variables as a run, and sends nothing. Of secrets it
only shows whether they are set. A --token-command is not run.
""",
    "quota": """\
Sends nothing. The quota belongs to the organization of the API token.
""",
    "sandbox": """\
Faults: any status from 400 to 599, or reset, lost, hang, slow, truncated,
html, badjson, shape. A driver ID that ends in 404404 is unknown to the
sandbox; one that ends in 400400 is deactivated.
""",
}
