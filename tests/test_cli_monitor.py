"""The commands of the production monitor as an owner meets them, on the sample world."""

import json

import pytest
from commands import called, started

from feedback_lib import sample, specs

SPEC = "spec-reg-002"
NOW = "2026-11-16"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beacon")
    sample.generate(folder, seed=42)
    return folder


@pytest.fixture(scope="module")
def spec(root):
    return root / "specs" / SPEC / "spec.md"


def test_slo_check_lists_targets_as_json_with_their_lines(spec):
    done = called("slo", "check", spec, "--json")
    assert done.returncode == 0, done.stderr
    targets = {t["name"]: t for t in json.loads(done.stdout)}
    p99 = targets["api_latency_p99"]
    assert "p99" in spec.read_text().splitlines()[p99["line"] - 1]
    expected = {"category": "latency", "op": "<", "value": 500, "unit": "ms", "value_si": 0.5, "percentile": 99}
    assert {k: p99[k] for k in expected} == expected


def test_slo_check_says_which_lines_it_could_not_use_and_why(spec):
    done = called("slo", "check", spec)
    assert done.returncode == 0 and "api_error_rate" in done.stdout
    assert "TLS 1.2" in done.stderr and "TLS" not in done.stdout


def test_slo_init_writes_what_loads_and_never_overwrites(root, spec, tmp_path):
    (tmp_path / "specs" / SPEC).mkdir(parents=True)
    own = tmp_path / "specs" / SPEC / "spec.md"
    own.write_text(spec.read_text())
    done = called("slo", "init", own, "--provider", "prometheus", "--url", "http://127.0.0.1:9090")
    assert done.returncode == 0, done.stderr
    assert {w.slo.sli for w in specs.load(SPEC, tmp_path).watched} >= {"api_latency_p99", "api_error_rate"}
    again = called("slo", "init", own)
    assert again.returncode == 2 and "was not changed" in again.stderr


def test_run_once_shows_health_and_fails_on_a_breach_only_when_asked(root):
    calm = called("monitor", "--spec-id", SPEC, "--root", root, "--as-of", NOW, "--run-once", "--fail-on-breach")
    assert calm.returncode == 0, calm.stderr
    assert f"({SPEC}) is healthy at {NOW}" in calm.stdout
    assert "not measured: line" in calm.stderr
    burning = ["monitor", "--spec-id", "spec-core-001", "--root", root, "--as-of", NOW, "--dry-run"]
    assert called(*burning).returncode == 0
    breach = called(*burning, "--fail-on-breach", "--json")
    assert breach.returncode == 3
    shot = json.loads(breach.stdout)
    assert (shot["workflow"], shot["spec_id"], shot["status"]) == (
        "smartspec_production_monitor",
        "spec-core-001",
        "unhealthy",
    )
    assert {"name", "value", "slo", "status"} <= shot["metrics"][0].keys()


def test_the_older_command_name_takes_its_own_flags(root):
    done = started("--spec-id", SPEC, "--run-once", "--verbose", program="smartspec_production_monitor", cwd=root)
    assert done.returncode == 1  # the sample lies in the past: no data
    assert "is unknown" in done.stdout and "no data since" in done.stdout


def test_quiet_says_nothing_but_errors(root):
    done = called("--quiet", "monitor", "--spec-id", SPEC, "--root", root, "--as-of", NOW, "--dry-run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_reports_and_regressions_are_printed_with_their_evidence(root):
    core = ["--spec-id", "spec-core-001", "--root", root]
    nothing = called("slo", "report", *core)
    assert nothing.returncode == 2 and "nothing was measured yet" in nothing.stderr
    called("monitor", *core, "--as-of", NOW)
    weekly = called("slo", "report", *core, "--period", "weekly", "--day", "2026-11-10")
    assert weekly.returncode == 0, weekly.stderr
    assert "was unhealthy in 2026-W46" in weekly.stdout and "rose by" in weekly.stdout
    found = called("slo", "regressions", *core, "--as-of", NOW, "--json")
    rows = {r["metric"]: r for r in json.loads(found.stdout)}
    assert rows["document_latency_p99"]["start"] == "2026-11-10"
    assert rows["document_latency_p99"]["low"] < 0.2 < rows["document_latency_p99"]["high"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["monitor", "--spec-id", "spec-reg-02"], "spec-reg-002"),
        (["monitor", "--spec-id", SPEC, "--daemon", "--run-once"], "--daemon goes on for ever"),
        (["slo", "check", "nowhere.md"], "nowhere.md"),
        (["monitor", "--spec-id", SPEC, "--daemon", "--interval", "soon"], "--interval: 'soon' is no duration"),
    ],
)
def test_wrong_use_is_exit_code_2_with_a_message_and_no_traceback(root, arguments, message):
    run = started if "--daemon" in arguments else called  # a daemon that starts after all would not end
    done = run(*arguments, cwd=root)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
