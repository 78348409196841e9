from __future__ import annotations

import pytest

from feedback_lib.analysis import text

# --- clean


def test_cleaning_drops_markup_addresses_quotes_and_the_signature():
    raw = (
        "<p>Hello,&nbsp;the <b>export</b> fails.</p>\n"
        "On Monday Ann wrote:\n> did you try again?\n"
        "See [the page](https://x.test/a) or https://x.test/b?c=1 and write to [email].\n"
        "-- \nAnn\nHead of Exports"
    )
    assert text.clean(raw) == "Hello, the export fails.\nSee the page or and write to ."


def test_cleaning_keeps_of_a_stack_trace_what_went_wrong():
    raw = (
        "It broke:\n```\nTraceback (most recent call last):\n"
        '  File "/srv/app.py", line 3, in run\n    go()\n  File "/srv/b.py", line 9, in go\n'
        "ValueError: no such order\n```\nwhy?"
    )
    cleaned = text.clean(raw)
    assert "ValueError: no such order" in cleaned
    assert "line 9" not in cleaned
    assert cleaned.startswith("It broke:")
    assert cleaned.endswith("why?")


def test_cleaning_twice_changes_nothing_more():
    raw = "# Title\n\n* one\n* two\n\n| a | b |\n~~~~\nplain text"
    assert text.clean(text.clean(raw)) == text.clean(raw)


def test_a_very_long_text_is_cut():
    assert len(text.clean("word " * 10_000)) == text.MAX_CHARS


# --- language


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("The search page stays empty after the update", "en"),
        ("Die Suche bleibt nach dem Update leer", "de"),
        ("Depuis la mise à jour la recherche reste vide", "fr"),
        ("Desde la actualización la búsqueda está vacía", "es"),
        ("Dopo l'aggiornamento la ricerca resta vuota", "it"),
        ("Sinds de update blijft het zoeken leeg", "nl"),
        ("Desde a atualização a pesquisa não mostra nada", "pt"),
        ("Po aktualizacji wyszukiwanie nic nie pokazuje", "pl"),
        ("Po aktualizaci se při hledání nic nezobrazuje", "cs"),
        ("Efter uppdateringen är sökningen tom för mig", "sv"),
        ("После обновления поиск ничего не показывает", "ru"),
        ("更新後、検索が空のままです", "ja"),
        ("更新后搜索页面是空的", "zh"),
        ("업데이트 후 검색이 비어 있습니다", "ko"),
        ("Після оновлення пошук нічого не показує", "uk"),
    ],
)
def test_the_language_is_read_from_the_text(words, code):
    assert text.language(words) == code


def test_the_settings_of_the_writer_do_not_outweigh_the_words():
    assert text.language("Bonjour, mes dossiers sont passés en anglais depuis hier", hint="en-US") == "fr"


@pytest.mark.parametrize("words", ["", "12345", "ok", "Thunderbird"])
def test_too_few_words_have_no_language(words):
    assert text.language(words) is None


# --- gloss


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Die Ordnernamen sind plötzlich auf Englisch", "de"),
        ("Les noms des dossiers sont en anglais", "fr"),
        ("Los nombres de las carpetas están en inglés", "es"),
        ("I nomi delle cartelle sono in inglese", "it"),
        ("De mapnamen zijn in het Engels", "nl"),
        ("Os nomes das pastas estão em inglês", "pt"),
        ("Nazwy folderów są po angielsku", "pl"),
        ("Názvy složek jsou v angličtině", "cs"),
        ("Namnen på mapparna är på engelska", "sv"),
        ("Названия папок на английском языке", "ru"),
        ("フォルダーの名前が英語になった", "ja"),
    ],
)
def test_the_same_complaint_has_the_same_english_words_in_every_language(words, code):
    gloss, known = text.gloss(words, code)
    assert {"folder", "name", "English"} <= set(gloss.split())
    assert known >= text.READABLE


def test_english_is_its_own_gloss():
    assert text.gloss("My folders vanished!", "en") == ("My folders vanished!", 1.0)


def test_a_language_without_a_column_is_not_read():
    assert text.gloss("Az üzeneteim eltűntek", "hu") == ("", 0.0)


def test_unknown_words_lower_the_share_and_stay_out_of_the_gloss():
    gloss, known = text.gloss("Les dossiers gribouillent des coquecigrues", "fr")
    assert gloss == "folder"
    assert known == pytest.approx(1 / 3)


def test_products_versions_and_abbreviations_stay():
    gloss, known = text.gloss("Die Anmeldung bei GMail über IMAP mit v144.0 geht nicht", "de")
    assert "gmail" in gloss.lower()
    assert "IMAP" in gloss or "imap" in gloss
    assert "v144.0" in gloss
    assert "login" in gloss
    assert known == 1.0


def test_every_row_of_the_lexicon_has_every_language_and_every_form_is_clean():
    for code, own in text._lexicon().items():
        if code == "en":
            continue
        assert len(set(own.forms.values()) | set(own.stems.values())) > 300, code
        assert all(form == form.strip() and "," not in form for form in [*own.forms, *own.stems, *own.phrases]), code


# --- fingerprint

PYTHON = """It fails since yesterday:
Traceback (most recent call last):
  File "/home/ann/app/run.py", line {line}, in main
    load("{order}")
  File "/home/ann/app/load.py", line 7, in load
KeyError: 'order-{order}'
"""
JAVA = """ERROR 2026-03-0{line} 10:00:0{line} request {order} failed
java.lang.RuntimeException: wrapper
\tat com.acme.Api.call(Api.java:{line})
Caused by: java.sql.SQLTimeoutException: query {order} timed out after {line}000 ms
\tat com.acme.Db.query(Db.java:{line})
\t... 12 more
"""
JAVASCRIPT = """TypeError: Cannot read properties of undefined (reading 'id')
    at render (https://x.test/assets/app-{order}.js:{line}:17)
    at async load (https://x.test/assets/app-{order}.js:2:{line})
"""
GO = """panic: runtime error: index out of range [{line}] with length 3
goroutine {line} [running]:
main.pick(0xc0000{order}, 0x{line})
\t/srv/go/main.go:{line} +0x1d
"""


@pytest.mark.parametrize("trace", [PYTHON, JAVA, JAVASCRIPT, GO])
def test_the_same_error_with_other_ids_and_lines_has_the_same_fingerprint(trace):
    first = text.fingerprint(trace.format(line=3, order=1182))
    second = text.fingerprint(trace.format(line=8, order=977))
    assert first == second
    assert first is not None
    assert len(first) == 16


def test_different_errors_have_different_fingerprints():
    traces = [t.format(line=3, order=1182) for t in (PYTHON, JAVA, JAVASCRIPT, GO)]
    other = PYTHON.format(line=3, order=1182).replace("KeyError", "ValueError")
    assert len({text.fingerprint(t) for t in [*traces, other]}) == 5


def test_the_root_cause_of_a_java_trace_counts():
    assert text.error_template(JAVA.format(line=3, order=1182)) == (
        "java.sql.SQLTimeoutException: query <n> timed out after <n> ms"
    )


def test_the_status_of_a_failed_request_is_kept_and_its_path_is_not():
    first = text.error_template("HTTP 503 for https://api.test/v1/orders/18?x=1")
    assert first == "HTTP 503 for <url>"
    assert text.fingerprint("HTTP 503 for https://a.test") != text.fingerprint("HTTP 404 for https://a.test")


@pytest.mark.parametrize("secret", ["3fa85f64-5717-4562-b3fc-2c963f66afa6", "/home/ann/notes.txt", "0x7ffdeadbeef"])
def test_ids_paths_and_addresses_are_masked(secret):
    assert secret not in str(text.error_template(f"RuntimeError: could not open {secret} again"))


@pytest.mark.parametrize(
    "words", ["", "I made an error when I typed my address", "The export is slow", "Folder names are in English"]
)
def test_a_text_without_an_error_message_has_no_fingerprint(words):
    assert text.fingerprint(words) is None
