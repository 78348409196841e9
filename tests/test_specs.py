import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from feedback_lib import plugins, specs
from feedback_lib.errors import ConfigError

SPEC = """# My API

## Non-functional requirements

| Category | Requirement | Metric | Target |
|---|---|---|---|
| Performance | p99 Latency | `api_latency_p99` | < 200ms |
| Reliability | Error Rate | `api_error_rate` | < 0.1% |
| Availability | Uptime | `api_uptime` | > 99.9% |
"""
HEAD = "provider: prometheus\nurl: http://127.0.0.1:9090\n"


def project(root: Path, metrics: str, spec: str = SPEC, head: str = HEAD) -> Path:
    """A project with the spec my-api, measured so; ``metrics`` are the lines below 'metrics:'."""
    folder = root / "specs" / "my-api"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.md").write_text(spec)
    (folder / "observability.yaml").write_text(head + ("metrics:\n" + metrics if metrics else ""))
    return root


def watched(root: Path, metrics: str, spec: str = SPEC, head: str = HEAD) -> specs.Watched:
    (one,) = specs.load("my-api", project(root, metrics, spec, head)).watched
    return one


def with_target(line: str) -> str:
    return f"# Requirements\n\n| Requirement | Metric | Target |\n|---|---|---|\n{line}\n"


# finding


def put(path: Path, text: str = "# Spec\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_spec_is_found_by_its_folder_its_front_matter_or_the_index(tmp_path):
    by_folder = put(tmp_path / "services/shop/specs/core/spec-1/spec.md")
    hidden = put(tmp_path / ".spec/specs/spec-2/spec.md")
    by_front = put(tmp_path / "docs/shop/spec.md", "---\ntitle: x\nspec_id: 'FEAT-3'\n---\n# Shop\n")
    indexed = put(tmp_path / "elsewhere/shop.md")
    put(tmp_path / ".spec/SPEC_INDEX.json", json.dumps({"specs": [{"id": "spec-4", "path": "elsewhere/shop.md"}]}))
    found = [specs.find(name, tmp_path) for name in ("spec-1", "spec-2", "FEAT-3", "spec-4")]
    assert found == [by_folder, hidden, by_front, indexed]


def test_front_matter_counts_only_between_its_two_rules(tmp_path):
    put(tmp_path / "a/spec.md", "---\ntitle: x\n---\nspec_id: FEAT-9\n")
    put(tmp_path / "b/spec.md", "---\nid: FEAT-8\n---\n")
    with pytest.raises(ConfigError, match="nearest: FEAT-8"):
        specs.find("FEAT-9", tmp_path)


def test_an_unknown_id_is_answered_with_the_nearest_known_ones(tmp_path):
    for name in ("spec-core-001-authentication", "spec-core-002-billing", "zebra"):
        put(tmp_path / f"specs/{name}/spec.md")
    with pytest.raises(ConfigError, match="nearest: spec-core-001-authentication") as problem:
        specs.find("spec-core-001-authentification", tmp_path)
    assert "zebra" not in str(problem.value)


def test_an_id_that_stands_for_several_files_lists_them(tmp_path):
    put(tmp_path / "specs/spec-1/spec.md")
    put(tmp_path / "old/specs/spec-1/spec.md")
    with pytest.raises(ConfigError, match=r"2 files: old/specs/spec-1/spec\.md, specs/spec-1/spec\.md"):
        specs.find("spec-1", tmp_path)


def test_one_file_known_in_three_ways_is_one_file(tmp_path):
    path = put(tmp_path / "specs/spec-1/spec.md", "---\nspec_id: spec-1\n---\n")
    put(tmp_path / ".spec/SPEC_INDEX.json", json.dumps({"specs": [{"id": "spec-1", "path": "specs/spec-1"}]}))
    assert specs.find("spec-1", tmp_path) == path


@pytest.mark.parametrize("name", ["../secret", "a/b", "/etc", "..", "a..b", "", " ", "-x", "x\n", "x" * 200, "é"])
def test_an_id_is_letters_digits_and_a_few_signs(tmp_path, name):
    put(tmp_path / "specs/a/spec.md")
    with pytest.raises(ConfigError, match="write letters, digits"):
        specs.find(name, tmp_path)


def test_nothing_outside_the_project_is_read(tmp_path):
    outside = put(tmp_path / "outside/spec-1/spec.md", "---\nspec_id: FEAT-1\n---\n")
    root = tmp_path / "root"
    put(root / "specs/other/spec.md")
    (root / "specs/spec-1").symlink_to(outside.parent)
    (root / "specs/linked").mkdir()
    (root / "specs/linked/spec.md").symlink_to(outside)
    for name in ("spec-1", "FEAT-1", "linked"):
        with pytest.raises(ConfigError, match="nearest: other"):
            specs.find(name, root)
    put(root / ".spec/SPEC_INDEX.json", json.dumps({"specs": [{"id": "up", "path": "../outside/spec-1/spec.md"}]}))
    with pytest.raises(ConfigError, match="leads out of the project"):
        specs.find("up", root)
    (root / "specs/other/observability.yaml").symlink_to(put(tmp_path / "outside/o.yaml", HEAD))
    with pytest.raises(ConfigError, match="leads out of"):
        specs.load("other", root)


def test_previews_backups_and_installed_packages_are_not_specs(tmp_path):
    path = put(tmp_path / "specs/a/spec.md")
    for folder in (".spec/reports/x/specs/a", "node_modules/p/specs/a", "specs/_backup/a", ".git/specs/a"):
        put(tmp_path / folder / "spec.md")
    assert specs.find("a", tmp_path) == path


def test_the_index_tells_when_it_is_broken_or_leads_nowhere(tmp_path):
    index = put(tmp_path / ".spec/SPEC_INDEX.json", json.dumps({"specs": [{"id": "a", "path": "gone.md"}]}))
    with pytest.raises(ConfigError, match=r"the path of a, 'gone\.md', is no file"):
        specs.find("a", tmp_path)
    index.write_text("[1")
    with pytest.raises(ConfigError, match=r"SPEC_INDEX\.json: not an index"):
        specs.find("a", tmp_path)


def test_the_measuring_file_beside_the_spec_comes_before_the_others(tmp_path):
    text = HEAD + "metrics:\n  - {name: api_uptime, query: up}\n"
    put(tmp_path / "specs/my-api/spec.md", SPEC)
    with pytest.raises(ConfigError, match=r"'feedback slo init .*spec\.md' writes one"):
        specs.load("my-api", tmp_path)
    for place in (
        "observability.yaml",
        ".spec/observability/my-api/observability.yaml",
        "specs/my-api/observability.yaml",
    ):
        path = put(tmp_path / place, text)
        assert specs.load("my-api", tmp_path).observability == path


# joining


def test_the_two_files_of_the_guide_make_a_plan(tmp_path, reference):
    guide = next((reference / "slo/upstream_specs").rglob("PRODUCTION_MONITOR_GUIDE.md")).read_text()
    table = re.search(r"```markdown\n(### Non-Functional.*?)```", guide, re.DOTALL)
    file = re.search(r"```yaml\n(provider: datadog.*?)```", guide, re.DOTALL)
    assert table
    assert file
    put(tmp_path / "specs/my-api/spec.md", table[1])
    put(tmp_path / "specs/my-api/observability.yaml", file[1])
    plan = specs.load("my-api", tmp_path)
    latency, errors = plan.watched
    assert latency.backend == {"kind": "datadog", "api_key_env": "DATADOG_API_KEY"}
    assert (latency.slo.sli, latency.slo.method, latency.slo.op, latency.slo.threshold, latency.slo.target) == (
        "api_latency_p99",
        "timeslices",
        "<",
        200.0,
        "99%",
    )
    assert (errors.slo.method, errors.slo.target, errors.invert, errors.slo.window) == (
        "ratio_timeslices",
        "99.9%",
        True,
        "30d",
    )
    assert [t.name for t in plan.unmeasured] == ["api_uptime"]
    assert plan.sinks == (
        {"kind": "incident_file", "folder": str(tmp_path / ".spec/reports/production-monitoring/alerts")},
    )
    assert (plan.service, plan.interval_s) == ("my-api", 60)


@pytest.mark.parametrize(
    ("target", "unit", "threshold", "shown"),
    [
        ("< 200ms", "s", 0.2, (0.25, 250.0)),
        ("< 200ms", "", 200.0, (250.0, 250.0)),
        ("<= 1.5s", "ms", 1500.0, (1200.0, 1.2)),
        ("< 26h", "s", 93600.0, (46800.0, 13.0)),
        ("< 0.3 ms", "s", 0.0003, (0.0007, 0.7)),
        (">= 10,000 req/min", "req/s", 10_000 / 60, (150.0, 9000.0)),
        (">= 1000 rps", "req/min", 60_000.0, (30_000.0, 500.0)),
        ("< 80%", "ratio", 0.8, (0.85, 85.0)),
        ("< 80%", "%", 80.0, (85.0, 85.0)),
        ("< 2GB", "B", 2e9, (1e9, 1.0)),
        ("< 2GiB", "MiB", 2048.0, (1024.0, 1.0)),
        (">= 50 MB/s", "B/s", 5e7, (25e6, 25.0)),
    ],
)
def test_a_limit_is_converted_exactly_into_the_unit_of_the_query(tmp_path, target, unit, threshold, shown):
    said = f", unit: '{unit}'" if unit else ""
    category = "saturation" if "%" in target else "other"
    one = watched(tmp_path, f"  - {{name: x, target: '{target}', category: {category}, query: q{said}}}\n")
    assert (one.slo.method, one.slo.threshold) == ("timeslices", threshold)
    assert one.shown(shown[0]) == shown[1]


@pytest.mark.parametrize(
    ("target", "share"),
    [
        ("< 0.1%", "99.9%"),
        ("< 0.05%", "99.95%"),
        ("<= 1e0%", None),
        ("> 99.9%", "99.9%"),
        (">= 99.99 %", "99.99%"),
        ("99,5%", "99.5%"),
        ("0.999", "99.9%"),
    ],
)
def test_a_share_keeps_the_digits_it_was_written_with(tmp_path, target, share):
    metric = f"  - {{name: x, target: '{target}', bad: b, total: t}}\n"
    if share is None:
        with pytest.raises(ConfigError, match="line 4"):
            watched(tmp_path, metric)
    else:
        assert watched(tmp_path, metric).slo.target == share


@pytest.mark.parametrize(
    ("metric", "method", "target", "more"),
    [
        ("name: api_error_rate, bad: b, total: t", "occurrences", "99.9%", {}),
        ("name: api_error_rate, good: g, bad: b", "occurrences", "99.9%", {}),
        ("name: api_error_rate, query: q", "ratio_timeslices", "99.9%", {"invert": True, "scale": 1.0}),
        ("name: api_error_rate, query: q, unit: '%'", "ratio_timeslices", "99.9%", {"invert": True, "scale": 0.01}),
        ("name: api_uptime, query: up", "ratio_timeslices", "99.9%", {"invert": False, "scale": 1.0}),
        ("name: api_uptime, query: up, unit: percent", "ratio_timeslices", "99.9%", {"invert": False, "scale": 0.01}),
        ("name: api_uptime, query: up, method: timeslices, unit: ratio", "timeslices", "99%", {"threshold": 0.999}),
        ("name: api_latency_p99, query: q, objective: 99.5%", "timeslices", "99.5%", {"threshold": 200.0}),
        ("name: api_latency_p99, query: q, objective: 0.995", "timeslices", "99.5%", {"op": "<"}),
        ("name: api_latency_p99, good: g, total: t", "occurrences", "99%", {"op": ">=", "limit": 99.0, "unit": "%"}),
        ("name: api_latency_p99, good: g, total: t, objective: 95%", "occurrences", "95%", {"limit": 95.0}),
        ("name: api_latency_p99, query: q, target: '< 150ms'", "timeslices", "99%", {"threshold": 150.0}),
        ("name: hits, target: '> 95%', category: other, good: g, total: t", "occurrences", "95%", {}),
        ("name: hits, target: '> 95%', category: other, query: q", "timeslices", "99%", {"threshold": 95.0}),
    ],
)
def test_the_method_follows_from_the_target_and_the_queries(tmp_path, metric, method, target, more):
    one = watched(tmp_path, f"  - {{{metric}}}\n")
    assert (one.slo.method, one.slo.target) == (method, target)
    for name, value in more.items():
        held = one.slo if name == "threshold" else one
        assert getattr(held, name) == value


def test_what_is_shown_of_a_share_is_in_the_unit_of_the_spec(tmp_path):
    ratio = watched(tmp_path, "  - {name: api_error_rate, query: q}\n")
    percent = watched(tmp_path, "  - {name: api_error_rate, query: q, unit: '%'}\n")
    counts = watched(tmp_path, "  - {name: api_uptime, good: g, total: t}\n")
    assert (ratio.shown(0.0012), percent.shown(0.12), counts.shown(0.9985)) == (0.12, 0.12, 99.85)
    assert {(w.op, w.limit, w.unit) for w in (ratio, percent)} == {("<", 0.1, "%")}


def test_a_metric_is_joined_by_the_same_words_however_they_are_tied(tmp_path):
    one = watched(tmp_path, "  - {name: API-latency.p99, query: q, unit: s}\n")
    assert one.target is not None
    assert one.target.name == "api_latency_p99"


def test_one_name_with_a_target_per_percentile_is_told_apart(tmp_path):
    table = (
        "| Requirement | Metric | p50 | p95 |\n|---|---|---|---|\n| Latency | `api_latency` | < 50ms | < 200ms |\n"
        "| Latency again | `api_latency` | < 50ms | < 200ms |\n"
    )
    with pytest.raises(ConfigError, match=r"line 4: 'api_latency' has 2 targets .*api_latency-p50 .*api_latency-p95"):
        watched(tmp_path, "  - {name: api_latency, query: q}\n", f"# R\n\n{table}")
    plan = specs.load("my-api", project(tmp_path, "  - {name: api_latency_p95, query: q}\n", f"# R\n\n{table}"))
    assert plan.watched[0].slo.threshold == 200.0
    assert [t.percentile for t in plan.unmeasured] == [50]


def test_the_window_is_the_metrics_then_the_files_then_the_specs(tmp_path):
    spec = with_target("| Uptime | `api_uptime` | > 99.9% monthly |")
    metric = "  - {name: api_uptime, query: q%s}\n"
    assert watched(tmp_path, metric % "", spec).slo.window == "month"
    assert watched(tmp_path, metric % "", spec, HEAD + "window: 7d\n").slo.window == "7d"
    assert watched(tmp_path, metric % ", window: quarter", spec, HEAD + "window: 7d\n").slo.window == "quarter"
    assert watched(tmp_path, metric % "", SPEC).slo.window == "30d"


def test_placeholders_become_lengths_also_inside_a_mapping(tmp_path):
    one = watched(
        tmp_path,
        '  - {name: api_uptime, slice: 5m, window: 7d, query: "a[$slice] b[$window] $slices $$slice"}\n',
    )
    assert one.query == "a[300s] b[7d] $slices $300s"
    assert one.written == {"query": "a[$slice] b[$window] $slices $$slice"}
    assert one.slo.slice_s == 300
    nested = "  - name: api_uptime\n    query: {column: up, where: {every: [$slice]}}\n"
    csv = "provider: csv_file\npath: m.csv\n"
    assert watched(tmp_path, nested, head=csv).query == {"column": "up", "where": {"every": ["60s"]}}


def test_options_paths_and_other_backends_are_resolved_from_the_files_folder(tmp_path):
    put(tmp_path / "specs/my-api/deploys.csv", "at,version\n")
    head = "provider: csv_file\npath: data/m.csv\ninterval: 90\nservice: My API\nrunbook: https://r\n"
    head += "deploys: deploys.csv\n"
    metrics = (
        "  - {name: api_uptime, query: up}\n"
        "  - {name: api_error_rate, query: e, runbook: https://own, provider: {kind: csv_file, path: /abs/x.csv}}\n"
        "alerts:\n  - {kind: incident_file}\n  - {kind: file, folder: out}\n"
    )
    folder = tmp_path / "specs/my-api"
    plan = specs.load("my-api", project(tmp_path, metrics, head=head))
    assert [w.backend["path"] for w in plan.watched] == [str(folder / "data/m.csv"), "/abs/x.csv"]
    assert [w.runbook for w in plan.watched] == ["https://r", "https://own"]
    assert [s["folder"] for s in plan.sinks] == [str(tmp_path / specs.ALERTS), str(folder / "out")]
    assert (plan.service, plan.interval_s, plan.deploys) == ("My API", 90, folder / "deploys.csv")


# what is wrong


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("provider: prometheus\nurl: http://x\n", 1, "metrics: write one entry per target"),
        ("provider: promtheus\nmetrics: [{name: api_uptime, query: up}]\n", 1, "did you mean 'prometheus'"),
        ("metrics: [{name: api_uptime, query: up}]\n", 1, "write 'provider:'"),
        ("provider: prometheus\nmetrics: [{name: api_uptime, query: up}]\n", 1, "option 'url' is missing"),
        (HEAD + "intervall: 60s\nmetrics: [{name: api_uptime, query: up}]\n", 3, "did you mean 'interval'"),
        (HEAD + "interval: soon\nmetrics: [{name: api_uptime, query: up}]\n", 3, "'soon' is no duration"),
        (HEAD + "window: 5m\nmetrics: [{name: api_uptime, query: up}]\n", 3, "shorter than a day"),
        (HEAD + "spec_id: other\nmetrics: [{name: api_uptime, query: up}]\n", 3, "speaks of spec 'other'"),
        (HEAD + "deploys: gone.csv\nmetrics: [{name: api_uptime, query: up}]\n", 3, "columns at,version"),
        (HEAD + "url: http://y\nmetrics: []\n", 3, "'url' stands on line 2 already"),
        (HEAD + "runbook: http://me:pw@x\nmetrics: [{name: api_uptime, query: up}]\n", 3, "a user and a password"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: up\n", 5, "not valid YAML"),
        (HEAD + "metrics:\n  - 7\n", 4, "write a metric as keys and values"),
        (HEAD + "metrics:\n  - {query: up}\n", 4, "name: is missing"),
        (HEAD + "metrics:\n  - name: api_latnecy_p99\n    query: q\n", 4, "nearest targets there: api_latency_p99"),
        (HEAD + "metrics:\n  - name: api_uptime\n    qurey: up\n", 5, "did you mean 'query'"),
        (HEAD + "metrics:\n  - name: api_uptime\n", 4, "write 'query', or two of"),
        (HEAD + "metrics:\n  - name: api_uptime\n    good: g\n", 4, "found good"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, good: g}\n", 4, "found query, good"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: 7}\n", 4, "query is 7"),
        (HEAD + "metrics:\n  - name: api_uptime\n    query: q\n    method: slices\n", 6, "unknown method"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, method: occurrences}\n", 4, "two of 'good', 'bad' and"),
        (HEAD + "metrics:\n  - {name: api_latency_p99, query: q, unit: req/s}\n", 4, "cannot be compared with 200 ms"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, objective: 99%}\n", 4, "write 'target:' instead"),
        (HEAD + "metrics:\n  - {name: api_latency_p99, query: q, objective: 99}\n", 4, "objective '99' is no share"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, target: '100%'}\n", 4, "leaves no error budget"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, target: good}\n", 4, "'good' is no target"),
        (HEAD + "metrics:\n  - {name: x, query: q, target: 7 things}\n", 4, "does not say above or below"),
        (HEAD + "metrics:\n  - {name: x, good: q, total: t, target: '< 5s'}\n", 4, "Write 'objective: 99%'"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, slice: 0s}\n", 4, "no duration"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: q, min_events: few}\n", 4, "write a number such as 10"),
        (HEAD + "metrics:\n  - {name: api_uptime, query: 'q[$window]', window: month}\n", 4, "has no fixed length"),
        (
            HEAD + "metrics:\n  - {name: api_uptime, query: q}\n  - {name: API-uptime, query: q}\n",
            5,
            "on line 4 already",
        ),
        (
            HEAD + "metrics:\n  - name: api_uptime\n    query: q\n    provider:\n      kind: csv\n",
            7,
            "known: command, csv_file",
        ),
        (HEAD + "metrics: [{name: api_uptime, query: q}]\nalerts: {kind: file}\n", 4, "alerts: write a list"),
        (HEAD + "metrics: [{name: api_uptime, query: q}]\nalerts:\n- kind: pager\n", 5, "pagerduty"),
        (
            HEAD + "metrics: [{name: api_uptime, query: q}]\nalerts:\n- kind: file\n  fold: x\n",
            6,
            "did you mean 'folder'",
        ),
        (HEAD + "token: {{env.X}}\nmetrics: []\n", 3, "needs quotes"),
        (HEAD + "url2: '{{env.X}}'\nmetrics: [{name: api_uptime, query: q}]\n", 3, "takes token, user, password"),
        (HEAD + "tenant: 'a{{env.X}}'\nmetrics: [{name: api_uptime, query: q}]\n", 3, "the whole value or none"),
        ("a: &a [*a]\n", 1, "an alias that holds itself"),
        ("- 1\n", None, "expected keys and values"),
    ],
)
def test_a_mistake_is_named_with_its_file_its_line_and_what_to_write(tmp_path, text, line, said):
    path = project(tmp_path, "") / "specs/my-api/observability.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as problem:
        specs.load("my-api", tmp_path)
    message = str(problem.value)
    assert message.startswith(f"{path} line {line}: " if line else f"{path}: ")
    assert said in message


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("provider: datadog\n{}: {}\n", name)
        for name in ("api_key", "app_key", "application_key", "token", "password", "secret", "DD_API_KEY", "api-key")
    ]
    + [
        ("provider: {{kind: prometheus, url: http://x, {}: {}}}\n", "token"),
        ("provider: datadog\nalerts:\n  - kind: pagerduty\n    {}: {}\n", "routing_key"),
        ("provider: datadog\nalerts:\n  - kind: alertmanager\n    url: http://x\n    labels: {{{}: {}}}\n", "token"),
        ("provider: datadog\n{}: {}\n", "api_key_env"),
    ],
)
def test_a_literal_secret_is_refused_and_never_shown(tmp_path, where, name):
    planted = "hunter2-6ab4"
    root = project(tmp_path, "  - {name: api_uptime, query: q}\n", head=where.format(name, planted))
    with pytest.raises(ConfigError) as problem:
        specs.load("my-api", root)
    message = str(problem.value)
    assert planted not in message
    assert "{{env." in message or "in capitals" in message


def test_credentials_are_kept_by_the_name_of_their_variable(tmp_path):
    head = (
        'provider: datadog\napi_key: "{{env.MY_API_KEY}}"\napplication_key: "{{ env.MY_APP_KEY }}"\n'
        'alerts:\n  - {kind: pagerduty, routing_key: "{{env.PD}}"}\n  - {kind: webhook, url: "{{env.HOOK}}"}\n'
    )
    plan = specs.load("my-api", project(tmp_path, "  - {name: api_uptime, query: q}\n", head=head))
    assert plan.watched[0].backend == {"kind": "datadog", "api_key_env": "MY_API_KEY", "app_key_env": "MY_APP_KEY"}
    assert plan.sinks == ({"kind": "pagerduty", "routing_key_env": "PD"}, {"kind": "webhook", "url_env": "HOOK"})


# writing


EVERYTHING = """---
spec_id: 'shop-7'
---
# Shop

## Requirements

- Checkout p95 latency < 200ms
- Error rate < 0.1% monthly
- Uptime must be 99.9%
- Backup success rate ≥ 99%
- Support at least 1000 requests per second
- CPU usage must stay below 80%
- Data must not be older than 5 minutes
- Cache hit rate must exceed 95%
- Bandwidth of at least 50 MB/s
- System uptime of 100%
- Error rate of "quotes": 'all' {of} them # < 5%
- Responses must be fast
"""


@pytest.mark.parametrize("provider", plugins.available("metrics"))
def test_what_init_writes_loads_as_it_is_and_measures_every_target(tmp_path, provider):
    spec = put(tmp_path / "specs/shop/spec.md", EVERYTHING)
    text = specs.init(spec, provider)
    put(spec.parent / "observability.yaml", text)
    plan = specs.load("shop-7", tmp_path)
    categories = {w.slo.category for w in plan.watched}
    assert categories >= {"latency", "error_rate", "availability", "reliability", "throughput", "saturation"}
    assert all(w.backend["kind"] == provider for w in plan.watched)
    assert [t.value for t in plan.unmeasured if t.category == "availability"] in ([], [100])
    assert not [t for t in plan.unmeasured if t.value != 100]


def test_init_says_in_comments_which_line_an_entry_is_of_and_what_was_not_used(tmp_path):
    spec = put(tmp_path / "specs/shop/spec.md", EVERYTHING)
    text = specs.init(spec, "prometheus", "https://prometheus.example")
    assert "url: https://prometheus.example\n" in text
    assert "# spec.md line 8: - Checkout p95 latency < 200ms\n  - name:" in text
    assert "histogram_quantile(0.95" in text
    assert 'job="shop-7"' in text
    assert "# spec.md line 17: - System uptime of 100%\n  # is no target with an error budget" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_init_of_a_spec_without_targets_is_a_file_to_edit_that_loads(tmp_path):
    spec = put(tmp_path / "specs/shop/spec.md", "# Nothing here\n")
    put(spec.parent / "observability.yaml", specs.init(spec))
    assert [w.slo.sli for w in specs.load("shop", tmp_path).watched] == ["latency_p99"]


def test_init_loads_for_real_specs(tmp_path, reference):
    folder = reference / "slo/upstream_specs/naibarn+Smart-AI-Hub/specs"
    found = [folder / name / "spec.md" for name in ("001-user-authentication", "011-automated-backup")]
    targets = 0
    for path in found:
        spec = put(tmp_path / path.parent.name / "specs" / "real" / "spec.md", path.read_text())
        put(spec.parent / "observability.yaml", specs.init(spec))
        plan = specs.load("real", tmp_path / path.parent.name)
        targets += sum(w.target is not None for w in plan.watched)
    assert targets >= 10


# documented


PAGE = ROOT / "docs/observability.md"


@pytest.mark.parametrize("keys", [specs.TOP_KEYS, specs.METRIC_KEYS], ids=["file", "metric"])
def test_every_key_is_documented(keys):
    heading = "## Keys of the file" if keys is specs.TOP_KEYS else "## Keys of a metric"
    table = PAGE.read_text().split(heading)[1].split("\n## ")[0]
    rows = " ".join(re.findall(r"^\| ([^|]+)", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == set(keys)


def test_the_example_of_the_page_loads_and_uses_every_key_but_the_formal_ones(tmp_path):
    page = PAGE.read_text()
    table, file = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("markdown", "yaml"))
    assert table
    assert file
    put(tmp_path / "specs/my-api/spec.md", f"# My API\n\n{table[1]}")
    put(tmp_path / "specs/my-api/observability.yaml", file[1])
    plan = specs.load("my-api", tmp_path)
    assert [w.slo.method for w in plan.watched] == [
        "timeslices",
        "occurrences",
        "ratio_timeslices",
        "timeslices",
        "timeslices",
    ]
    assert plan.unmeasured == ()
    values = yaml.safe_load(file[1])
    assert set(specs.TOP_KEYS) - set(values) == {"deploys", "spec_id", "version"}
    assert set(specs.METRIC_KEYS) - {k for m in values["metrics"] for k in m} == {"good"}
