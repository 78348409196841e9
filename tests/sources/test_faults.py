"""Every live source against every fault: all arrives, or the error says what is missing and the next run has it."""

import pytest
from fake_services import FAULTS, TOKEN, UNTIL, Read, kinds, read, service

from feedback_lib.records import Item

LIMITED = ("github", "linear", "zendesk")  # a limit is heeded below the sources, by one code for all
CASES = [
    pytest.param(kind, name, marks=[pytest.mark.thorough] if name[:3].isdigit() and kind not in LIMITED else [])
    for name in FAULTS
    for kind in kinds()
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_nothing_is_lost_or_doubled(kind, name):
    if name == "expired cursor" and not service(kind).cursors:
        pytest.skip("it has no cursors")
    fault = FAULTS[name]()
    with service(kind)(service(kind).enough, fault=fault) as there:
        source = there.source()
        done = read(source)
        assert fault.done, "the fault never happened"
        if fault.fails:
            assert done.error, "the reading ended well"
            assert "next run goes on" in str(done.error)
            assert TOKEN not in str(done.error)
            stood = done.watermark
            fault.left = 0
            done = read(source, done)
            assert stood is None or done.watermark >= stood
        assert done.error is None
        assert not done.rejected
        expected = there.expected()
        removed = set(done.items) - set(expected)
        found = done.ids()
        assert {i: found.get(i) for i in expected} == expected
        assert len(removed) <= 2, "only what was deleted while it was read may be more"
        quiet = read(source, done)
        assert quiet.ids().keys() == done.items.keys()


@pytest.mark.parametrize("kind", kinds())
def test_a_killed_reading_goes_on_at_its_last_page(kind):
    with service(kind)(service(kind).enough) as there:
        source = there.source()
        whole = read(source)
        asked = len(there.requests)
        begun, pages = Read(), 0
        walk = source.fetch(None, UNTIL, None)
        for found in walk:
            if isinstance(found, Item):
                begun.items[found.native_id] = found
            else:
                begun.cursor, pages = found.cursor, pages + 1
            if pages == 2:
                break
        walk.close()
        before = len(there.requests)
        done = read(source, begun)
        assert done.ids() == whole.ids() == there.expected()
        assert len(there.requests) - before < asked, "it began from the beginning"


@pytest.mark.parametrize("kind", kinds())
def test_a_quiet_service_is_asked_once_per_stream(kind):
    with service(kind)(service(kind).enough) as there:
        source = there.source()
        done = read(source)
        before = len(there.requests)
        read(source, done)
        assert len(there.requests) - before <= len(done.cursor) + there.quiet_extra


@pytest.mark.parametrize("kind", kinds())
def test_only_reading_is_asked_and_the_token_is_never_in_an_address(kind):
    with service(kind)(service(kind).enough) as there:
        source = there.source()
        assert source.check()
        read(source)
        for request in there.requests:
            assert request.method in ("GET", "HEAD", "POST")
            assert request.method != "POST" or request.path in source.searches
            assert TOKEN not in request.path
            assert TOKEN not in str(request.query)


@pytest.mark.parametrize("kind", kinds())
def test_what_changed_after_the_end_of_the_run_comes_with_the_next(kind):
    """The service's clock may be ahead of ours."""
    with service(kind)(service(kind).enough) as there:
        source = there.source()
        whole = there.expected()
        middle = sorted(whole.values())[len(whole) // 2]
        done = read(source, until=middle)
        assert all(at < middle for at in done.ids().values())
        done = read(source, done)
        assert done.ids() == whole
