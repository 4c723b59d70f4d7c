"""Misspelled commands and flags, bad values, and help."""

from __future__ import annotations

import pytest
from support.settings_files import HIDDEN

from batch_issuer.cli import main
from batch_issuer.cli.parser import make_parser, subcommands


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Error and hint of a command line that nothing is done with."""
    assert main(list(arguments), {}) == 2
    output = capsys.readouterr()
    assert output.out == ""
    error, hint = output.err.splitlines()
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def test_without_a_command_help_goes_to_stderr_with_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {}) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: batch-issuer COMMAND")
    assert output.err == make_parser().format_help()


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        ("isue depot.csv", "'isue' is not a batch-issuer command", "did you mean issue? See batch-issuer --help"),
        ("depot.csv", "'depot.csv' is not a batch-issuer command", "see batch-issuer --help"),
        (
            "issue --regoin eu a",
            "issue has no flag --regoin",
            "did you mean --region? See batch-issuer issue --help",
        ),
        (
            "issue a --regoin=eu",
            "issue has no flag --regoin",
            "did you mean --region? See batch-issuer issue --help",
        ),
        ("retry --frobnicate x", "retry has no flag --frobnicate", "see batch-issuer retry --help"),
        ("retry --overwite", "retry has no flag --overwite", "did you mean --overwrite? See batch-issuer retry --help"),
        ("status a.csv -j", "status has no flag -j", "see batch-issuer status --help"),
        ("--verison", "batch-issuer has no flag --verison", "did you mean --version? See batch-issuer --help"),
        ("--sandbox issue a.csv", "batch-issuer has no flag --sandbox", "see batch-issuer --help"),
        ("issue a.csv b.csv", "unexpected argument 'b.csv'", "see batch-issuer issue --help"),
        ("issue --rate abc", "--rate: 'abc' is not a valid rate", "write it as 100/min, 100/6s or 5/s"),
        ("issue -o", "--output needs a value", "write it as --output OUT"),
        ("issue a.csv --rate --quiet", "--rate needs a value", "write it as --rate RATE"),
        ("issue a.csv --quiet=yes", "--quiet takes no value", "see batch-issuer issue --help"),
        ("retry", "retry needs RESULTS", "see batch-issuer retry --help"),
        ("check --region eu", "check has no flag --region", "see batch-issuer check --help"),
        ("issue --region mars", "--region: 'mars' is not a valid choice", "choose us, eu or ca"),
        ("issue --sandbox --region eu", "--sandbox and --region cannot be used together", "leave out one of them"),
        ("sandbox --fault reset", "--fault: 'reset' is not a valid fault", "write it as reset=0.05"),
    ],
)
def test_an_error_names_what_is_wrong_and_what_was_meant(
    arguments: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, *arguments.split()) == (error, hint)


@pytest.mark.parametrize(
    "arguments",
    [
        ["issue", "--quotas", f"redis://user:{HIDDEN}@h/0"],
        ["issue", f"--quotas=redis://user:{HIDDEN}@h/0"],
        ["issue", "a.csv", f"redis://user:{HIDDEN}@h/0"],
        ["issue", f"-redis://user:{HIDDEN}@h/0"],
        [f"redis://user:{HIDDEN}@h/0"],
        ["issue", "--rate", f"redis://user:{HIDDEN}@h/0"],
        ["issue", "--quiet=redis://h/0?password=" + HIDDEN],
    ],
)
def test_no_error_quotes_a_password(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert HIDDEN not in "".join(refusal(capsys, *arguments))


def test_the_flags_of_issue_are_grouped() -> None:
    text = subcommands(make_parser())["issue"].format_help()
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    groups = ["roster:", "results:", "API token and region:", "pace:", "unattended:"]
    assert headings == ["examples:", "positional arguments:", "options:", *groups]
    for heading, flag in zip(groups, ["--sheet", "--overwrite", "--region", "--burst", "--deadline"], strict=True):
        assert f"  {flag}" in text.partition(f"\n{heading}")[2].partition("\n\n")[0]


@pytest.mark.parametrize("command", ["", *subcommands(make_parser())])
def test_help_fits_80_columns(command: str) -> None:
    parser = subcommands(make_parser())[command] if command else make_parser()
    assert max(map(len, parser.format_help().splitlines())) <= 80
