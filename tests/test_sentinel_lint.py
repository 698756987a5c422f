"""sentinel.conf where users meet it: `redsim lint`, and the table of a report."""

from pathlib import Path

import redsim
from tests.test_services import trio


def test_lint_tells_a_sentinel_conf_by_its_first_word(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from redsim.cli import app

    path = tmp_path / "any.conf"
    path.write_text("port 26379\nsentinel monitor m 10.0.0.1 6379 2\nsentinel down-after-milliseconds m 5000\n")
    outcome = CliRunner().invoke(app, ["lint", str(path)])
    assert outcome.exit_code == 0, outcome.output
    assert "down-after-milliseconds m 5000: modelled" in outcome.output
    path.write_text("sentinel monitor m 10.0.0.1 6379 2\nsentinel down-after-millisecond m 5000\n")
    outcome = CliRunner().invoke(app, ["lint", str(path)])
    assert outcome.exit_code == 2
    assert "did you mean 'down-after-milliseconds'" in outcome.stderr


def test_a_report_has_its_lines() -> None:
    result = redsim.run(trio(duration="2s", timeline="[]"))
    mine = result.directives[result.directives.node == "sentinels"]
    assert "sentinel" in mine.directive.iloc[0]
    assert (mine.status == "modelled").all()
