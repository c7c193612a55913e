"""The listening room in a browser: by keyboard alone, for a screen reader, from verdict to corrections.csv."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fabricate import HOSTILE, room_runs
from test_listen import FACTS

from voxmake.report.listen.page import page as page_text
from voxmake.report.listen.page import write_room
from voxmake.report.listen.room import read_room
from voxmake.review import read_corrections

HEADER = "target,id,action,value,note\n"


@pytest.fixture(scope="session")
def room_folder(tmp_path_factory):
    """A finished page over fabricated runs."""
    root = tmp_path_factory.mktemp("room")
    (root / "listen").mkdir()
    write_room(root / "listen", read_room(room_runs(root / "runs"), seed=42), FACTS)
    return root / "listen"


@pytest.fixture
def room(visit, room_folder):
    return visit(room_folder / "index.html")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def saved(page):
    """The text of corrections.csv as the page saves it."""
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "corrections.csv"
    return Path(download.value.path()).read_bytes().decode()


def corrections(folder, text):
    """What diarize and prepare_dataset read out of a saved file."""
    path = folder / "corrections.csv"
    path.write_text(text, encoding="utf-8", newline="")
    found = read_corrections(SimpleNamespace(review=SimpleNamespace(corrections=str(path))))
    rows = [(row.id, row.action, row.value, row.note) for row in found.speakers]
    return found.good, found.rejected, found.texts, found.moved, rows


def load(page, text, name="corrections.csv"):
    page.locator("#load-file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": text.encode()})


def until(page, condition):
    """Wait for a condition in JavaScript. Playwright's own way needs eval, which the page forbids."""
    for _ in range(500):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never came true: {condition}")


def loaded(page):
    until(page, "document.querySelector('#live').textContent.includes('loaded from corrections.csv')")


def said(page):
    return page.locator("#live").inner_text()


def shown(page):
    """Ids of the clips in the list."""
    return page.locator("#table tbody tr:not(.group) th .pick").all_inner_texts()


def current(page):
    return page.locator("#detail-name").inner_text()


# ---------------------------------------------------------------------------- decisions by keyboard


def test_a_session_by_keyboard_ends_in_the_file_that_the_stages_read(room, tmp_path):
    press(room, "j")
    assert current(room) == "reader_0000"
    press(room, "g")
    assert said(room) == "reader_0000: good; now reader_0003"
    press(room, "b")  # and on to reader_0006
    press(room, "t")
    room.keyboard.type('It is ten, "they" say.')
    press(room, "Enter", "j", "m")
    room.keyboard.type("S02")
    press(room, "Enter", "k", "n")
    room.keyboard.type("a note, too")
    press(room, "Enter")
    text = saved(room)
    assert text == (
        HEADER + "clip,reader_0000,good,,\nclip,reader_0003,reject,,\n"
        'clip,reader_0006,reject,,"a note, too"\n'
        'clip,reader_0006,text,"It is ten, ""they"" say.",\n'
        "clip,reader_0009,speaker,S02,\n"
    )
    good, rejected, texts, moved, _ = corrections(tmp_path, text)
    assert good == {"reader_0000"}
    assert rejected == {"reader_0003": "", "reader_0006": "a note, too"}
    assert texts == {"reader_0006": 'It is ten, "they" say.'}
    assert moved == {"reader_0009": "S02"}
    assert re.findall(r"(\d+) (good|bad|texts|moved)", room.locator("#tally").inner_text()) == [
        ("1", "good"), ("2", "bad"), ("1", "texts"), ("1", "moved")
    ]  # fmt: skip


def test_space_plays_and_pauses_and_arrows_seek(room):
    room.evaluate("audio.defaultPlaybackRate = 0.1")  # time enough to pause a short clip
    press(room, "j", " ")
    until(room, "audio.currentTime > 0 && !audio.paused")
    assert room.locator("#play").inner_text() == "Pause"
    press(room, " ")
    until(room, "audio.paused")
    press(room, "ArrowRight")  # past the end of a short clip
    until(room, "Math.abs(audio.currentTime - 0.4) < 0.01")
    press(room, "ArrowLeft")
    until(room, "audio.currentTime === 0")
    box = room.locator("#wave").bounding_box()
    room.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    until(room, "Math.abs(audio.currentTime - 0.2) < 0.03")
    assert "0.2 of 0.4 seconds" in room.locator("#seek").get_attribute("aria-valuetext")
    press(room, "g")  # the keys work right after a click on the waveform
    assert said(room).startswith("reader_0000: good")


def test_every_clip_of_the_page_can_be_decoded_by_the_browser(room):
    room.evaluate(
        """() => Promise.all(DATA.clips.map((clip) => new Promise((done, failed) => {
            const probe = new Audio(clip.file);
            probe.onloadedmetadata = () => Math.abs(probe.duration - clip.seconds) < 0.01 ? done() : failed(new Error(clip.file));
            probe.onerror = () => failed(new Error(clip.file));
        })))"""
    )


def test_samples_of_a_speaker_play_one_after_the_other(room):
    room.evaluate("window.heard = []; audio.addEventListener('play', () => heard.push(playing))")
    press(room, "3", "j", " ")
    assert room.locator("#speaker-form").is_visible()
    samples = room.evaluate("DATA.speakers[0].samples.map(([id]) => id)")
    until(room, f"playing === '{samples[-1]}' && audio.ended")
    assert room.evaluate("heard") == samples


def test_undo_goes_back_step_by_step_to_nothing(room):
    press(room, "j", "g", "b", "t")
    room.keyboard.type("Another text")
    press(room, "Enter", "3", "j", "b", "1")
    for _ in range(4):
        press(room, "u")
    assert "undone" in said(room)
    press(room, "u")
    assert said(room) == "nothing to undo"
    assert saved(room) == HEADER


def test_the_same_verdict_again_takes_it_back(room):
    room.locator("#advance").uncheck()
    press(room, "j", "g", "g", "b", "g")
    assert saved(room) == HEADER + "clip,reader_0000,good,,\n"


def test_keys_do_nothing_while_typing(room):
    press(room, "j", "t")
    room.keyboard.type("gbuj? s1 3")
    assert current(room) == "reader_0000"
    assert not room.locator("#help").is_visible()
    press(room, "Escape")
    assert room.locator("#text").input_value() == HOSTILE.replace("\u2028", "\u2028")
    press(room, "/")
    room.keyboard.type("bgj")
    press(room, "Escape")
    assert saved(room) == HEADER


def test_keys_can_be_turned_off(room):
    press(room, "j", "?")
    room.locator("#keys-on").uncheck()
    press(room, "Escape", "g", "b")
    assert room.locator("#tally b").first.inner_text() == "0"


def test_an_empty_text_is_no_correction_and_the_old_text_is_none(room):
    press(room, "2", "j", "t", "Control+a", "Delete", "Enter")
    assert "can't be empty" in said(room)
    press(room, "t", "End")
    room.keyboard.type(" x")
    press(room, "Enter", "t", "End", "Backspace", "Backspace", "Enter")
    assert "as it was" in said(room)
    assert saved(room) == HEADER


def test_a_click_beside_an_edited_text_keeps_it_and_chooses_the_row(room):
    press(room, "2", "j", "t")
    room.keyboard.type("Typed, then clicked away.")
    room.locator("#table tbody tr").nth(2).locator("td").nth(3).click()
    assert current(room) == "reader_0009"
    assert saved(room) == HEADER + 'clip,reader_0001,text,"Typed, then clicked away.",\n'


# ---------------------------------------------------------------------------- speakers


def choose_speaker(page, name):
    page.locator(f'tr[data-key="speaker/{name}"] .pick').click()
    assert current(page) == name


def test_speakers_are_renamed_merged_split_and_rejected(room, tmp_path):
    press(room, "3")
    choose_speaker(room, "S01")
    press(room, "t")
    room.keyboard.type("Kathleen")
    press(room, "Enter")
    choose_speaker(room, "S03")
    press(room, "m")
    room.locator("#merge").select_option("S01")
    press(room, "Enter")
    assert said(room) == "S03: merged into S01"
    choose_speaker(room, "S02")
    room.locator("#split").fill("3")
    room.locator("#split-do").click()
    press(room, "n")
    room.keyboard.type("two women")
    press(room, "Enter")
    *_, rows = corrections(tmp_path, saved(room))
    # What goes into S01 comes before S01 gets its new name.
    assert rows == [("S03", "merge", "S01", ""), ("S01", "rename", "Kathleen", ""), ("S02", "split", "3", "two women")]
    choose_speaker(room, "S02")
    press(room, "b")
    *_, rows = corrections(tmp_path, saved(room))
    assert ("S02", "reject", "", "two women") in rows
    press(room, "b")
    *_, rows = corrections(tmp_path, saved(room))
    assert [row[0] for row in rows] == ["S03", "S01"]


def test_a_chain_of_merges_is_written_in_the_order_that_works(room, tmp_path):
    press(room, "3")
    for name, into in (("S02", "S03"), ("S01", "S02")):
        choose_speaker(room, name)
        if into == "S02":  # S02 is going, so it is no target: undo, then merge the other way round
            assert room.locator("#merge option").all_inner_texts() == ["S03"]
            into = "S03"
        room.locator("#merge").select_option(into)
        room.locator("#merge-do").click()
    choose_speaker(room, "S03")
    assert room.locator("#merge option").count() == 0
    assert room.locator("#merge-do").is_disabled()
    *_, rows = corrections(tmp_path, saved(room))
    assert rows == [("S02", "merge", "S03", ""), ("S01", "merge", "S03", "")]


def test_a_clip_moves_to_what_its_speaker_is_called_in_the_end(room, tmp_path):
    """diarize applies decisions on speakers first and moves clips last, by the names there are then."""
    press(room, "j", "m")
    room.keyboard.type("S02")
    press(room, "Enter", "3")
    choose_speaker(room, "S02")
    room.locator("#rename").fill("Nora")
    room.locator("#rename-do").click()
    *_, moved, _ = corrections(tmp_path, saved(room))
    assert moved == {"reader_0000": "Nora"}
    assert room.locator('tr[data-key="reader_0000"] .tag').inner_text() == "moved to Nora"
    room.locator("#speaker-clear").click()
    *_, moved, _ = corrections(tmp_path, saved(room))
    assert moved == {"reader_0000": "S02"}


def test_a_fix_that_the_run_shows_already_is_never_lost(visit, room_folder, tmp_path):
    fixed = "Sentence number 3, spoken on a rainy day."  # as if prepare_dataset had put it in
    text = HEADER + f'clip,reader_0003,text,"{fixed}",\nclip,reader_0003,speaker,S01,\n'
    page = visit(rewritten(room_folder, tmp_path / "again", corrections=text))
    press(page, "j", "j", "t", "End")
    page.keyboard.type("!")
    press(page, "Enter", "t", "End", "Backspace", "Enter", "m")
    page.keyboard.type("S02")
    press(page, "Enter", "m")
    page.keyboard.type("S01")
    press(page, "Enter")
    assert saved(page) == text


def test_two_speakers_never_get_one_name(room):
    press(room, "3")
    choose_speaker(room, "S01")
    room.locator("#rename").fill("S02")
    room.locator("#rename-do").click()
    assert "merge the two instead" in room.locator(".notice.error").inner_text()
    assert saved(room) == HEADER


def test_merging_into_a_speaker_of_a_loaded_file_that_was_renamed(room, tmp_path):
    load(room, HEADER + "speaker,S01,rename,Kathleen,\nspeaker,S03,merge,Kathleen,\n")
    loaded(room)
    press(room, "3")
    choose_speaker(room, "S01")
    room.locator("#rename").fill("Nora")
    room.locator("#rename-do").click()
    *_, rows = corrections(tmp_path, saved(room))
    assert rows == [("S03", "merge", "S01", ""), ("S01", "rename", "Nora", "")]


# ---------------------------------------------------------------------------- the file


FILE = (
    HEADER
    + "clip,größe/日本,reject,,👋\n"
    + "clip,kathleen_009,reject,,was good once\n"
    + "clip,reader_0000,good,,heard it\n"
    + 'clip,reader_0003,text,"It is ""ten"", o\'clock.",from the book\n'
    + 'clip,reader_0006,reject,,"door, slams\nsecond line"\n'
    + "clip,reader_0006,speaker,S02,\n"
    + "speaker,S01,rename,Kathleen,\n"
    + "speaker,Kathleen,split,2,\n"
    + "speaker,S03,merge,S01b,\n"
    + "speaker,S02,reject,,children\n"
)


@pytest.mark.parametrize("text", [FILE, FILE.replace("\n", "\r\n"), "\ufeff" + FILE, FILE.removesuffix("\n")])
def test_a_loaded_file_means_the_same_when_saved_again(room, tmp_path, text):
    load(room, text)
    loaded(room)
    assert corrections(tmp_path, saved(room)) == corrections(tmp_path, text)
    if text == FILE:
        assert saved(room) == FILE
    assert room.locator("#tally").inner_text().endswith("saved")


def test_a_later_row_wins_as_in_the_stages(room, tmp_path):
    text = (
        HEADER
        + "clip,a,good,,\nclip,a,reject,,x\nclip,a,text,one,\nclip,a,text,two,\nclip,__proto__,good,,\nclip,constructor,reject,,\n"
    )
    load(room, text)
    loaded(room)
    assert corrections(tmp_path, saved(room)) == corrections(tmp_path, text)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("clip,a,shout,,\n", "line 2: action shout: must be one of good, reject, text, speaker"),
        ("clip,a,text,,\n", "line 2: text needs a value"),
        ("clip,a,text,one, two,\n", "line 2: needs 5 columns"),
        ("clip,a,good,,\nspeaker,S,split,1,\n", "line 3: split needs a number"),
        ('clip,a,text,"never closed,\n', "line 2: a quote is not closed"),
        ("speaker,S,rename,T,\nspeaker,S,reject,,\n", "S is renamed, merged or rejected by an earlier row"),
        ("choir,a,good,,\n", "line 2: target choir"),
        ("clip,,good,,\n", "line 2: has no id"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line_by_page_and_stages_alike(room, tmp_path, rows, told):
    from voxmake.errors import BadInput

    press(room, "j", "g")
    load(room, HEADER + rows)
    assert told in room.locator(".notice.error").inner_text()
    assert saved(room) == HEADER + "clip,reader_0000,good,,\n"
    if "quote" not in told:  # Python's reader takes an open quote as it is, and finds the columns wanting
        with pytest.raises(BadInput):
            corrections(tmp_path, HEADER + rows)


def test_loading_adds_to_what_was_decided_and_can_be_undone(room):
    press(room, "j", "g")
    load(room, HEADER + "clip,reader_0003,reject,,\nspeaker,S01,reject,,\n")
    loaded(room)
    assert said(room).startswith("2 clips and speakers")
    assert saved(room).count("\n") == 4
    press(room, "u")
    assert saved(room) == HEADER + "clip,reader_0000,good,,\n"


def test_verdicts_stay_in_the_browser_and_unsaved_ones_warn(room):
    asked = []
    room.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    press(room, "j", "b")
    room.reload()
    assert asked == ["beforeunload"]
    assert room.locator("#tally .unsaved").count() == 1
    assert room.locator(".tag.bad").count() == 1
    assert saved(room) == HEADER + "clip,reader_0000,reject,,\n"
    room.reload()
    assert asked == ["beforeunload"]
    assert room.locator("#tally .unsaved").count() == 0
    assert room.locator(".tag.bad").count() == 1


def test_two_tabs_of_one_page_agree(room):
    other = room.context.new_page()
    other.goto(room.url)
    press(room, "j", "b")
    until(other, "document.querySelector('.tag.bad') !== null")
    press(other, "j", "j", "g")
    until(room, "document.querySelector('.tag.good') !== null")
    assert saved(room) == HEADER + "clip,reader_0000,reject,,\nclip,reader_0003,good,,\n"


def test_without_storage_it_works_and_says_that_nothing_is_kept(room):
    room.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full') } }")
    press(room, "j", "b", "b")
    assert room.locator(".notice.error").count() == 1
    assert "save corrections.csv before you leave" in room.locator(".notice.error").inner_text()
    assert saved(room).count("reject") == 2


def rewritten(room_folder, folder, **facts):
    """The same page over other facts."""
    shutil.copytree(room_folder, folder)
    text = (folder / "index.html").read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    (folder / "index.html").write_text(page_text(data | facts))
    return folder / "index.html"


def test_the_page_goes_on_from_the_file_that_the_config_names(visit, room_folder, tmp_path):
    page = visit(rewritten(room_folder, tmp_path / "again", corrections=FILE))
    press(page, "j", "j", "j", "j", "g")
    assert saved(page) == FILE.replace("speaker,S01,rename", "clip,reader_0009,good,,\nspeaker,S01,rename")


def test_unsaved_verdicts_on_earlier_runs_are_offered(visit, room_folder, tmp_path):
    newer = rewritten(room_folder, tmp_path / "newer", key="ffffffffffff")
    page = visit(room_folder / "index.html")
    page.on("dialog", lambda dialog: dialog.accept())
    press(page, "j", "b")
    page.goto(newer.as_uri())
    page.get_by_role("button", name="Take them over").click()
    assert saved(page) == HEADER + "clip,reader_0000,reject,,\n"
    page.reload()
    assert page.get_by_role("button", name="Take them over").count() == 0


# ---------------------------------------------------------------------------- the list


def test_every_column_sorts_both_ways(room):
    room.locator("#columns-open").click()
    for box in room.locator("#columns-list input").all():
        box.check()
    press(room, "Escape")
    heads = room.locator("#table thead th")
    names = [heads.nth(at).get_attribute("data-column") for at in range(heads.count())]
    assert {"id", "wave", "verdict", "reasons", "text", "speaker", "split", "rank", "values.snr_db"} <= set(names)
    everything = set(shown(room))
    for name in names:
        for direction in ("ascending", "descending"):
            room.locator(f'th[data-column="{name}"] button').click()
            if room.locator(f'th[data-column="{name}"]').get_attribute("aria-sort") != direction:
                room.locator(f'th[data-column="{name}"] button').click()
            assert room.locator(f'th[data-column="{name}"]').get_attribute("aria-sort") == direction
            assert room.locator('th[aria-sort="ascending"], th[aria-sort="descending"]').count() == 1
            values = room.evaluate(
                "(name) => view.rows.map((entry) => COLUMNS.find((column) => column.name === name).value(entry)).filter((value) => value !== '')", name
            )  # fmt: skip
            if all(isinstance(value, int | float) for value in values):
                assert values == sorted(values, reverse=direction == "descending")
            assert set(shown(room)) == everything
    room.locator('th[data-column="values.snr_db"] button').focus()
    press(room, "Enter", "Enter")
    assert shown(room) == ["reader_0009", "reader_0006", "reader_0003", "reader_0000"]


@pytest.mark.parametrize(
    ("column", "text", "ids"),
    [
        ("", "number 6", ["reader_0006"]),
        ("", "NUMBER 6", ["reader_0006"]),
        ("values.snr_db", ">15", ["reader_0006", "reader_0009"]),
        ("values.snr_db", "10..13", ["reader_0000", "reader_0003"]),
        ("values.snr_db", "<= 13", ["reader_0000", "reader_0003"]),
        ("wave", ">-5", ["reader_0003"]),
        ("reasons", "too fast", ["reader_0000", "reader_0003", "reader_0006", "reader_0009"]),
        ("text", "<img src=x", ["reader_0000"]),
        ("id", "nothing like it", []),
    ],
)
def test_any_column_filters(room, column, text, ids):
    room.locator("#filter-column").select_option(column)
    room.locator("#filter-text").fill(text)
    assert shown(room) == ids
    assert room.locator("#empty").is_visible() == (not ids)
    assert said(room) == f"{len(ids)} rows"


def test_verdicts_filter(room):
    press(room, "j", "g", "b")
    for wanted, count in (("good", 1), ("bad", 1), ("open", 2), ("text", 0), ("", 4)):
        room.locator("#filter-verdict").select_option(wanted)
        assert len(shown(room)) == count


def test_two_thousand_rows_come_in_pages(visit, room_folder, tmp_path):
    data = json.loads((room_folder / "index.html").read_text().split('id="data">')[1].split("</script>")[0])
    [clip] = [clip for clip in data["clips"] if clip["id"] == "reader_0003"]
    clips = [clip | {"id": f"c{number:04}", "rank": number + 1} for number in range(2000)]
    index = rewritten(room_folder, tmp_path / "big", clips=clips, speakers=[])
    page = visit(index)
    assert len(shown(page)) == 100
    assert page.locator("#range").inner_text() == "1 to 100 of 2000 rows"
    page.locator("#table tbody tr").last.locator(".pick").focus()
    page.locator("#table tbody tr").last.locator("td").last.click()
    press(page, "j")
    assert current(page) == "c0100"
    assert page.locator("#range").inner_text() == "101 to 200 of 2000 rows"
    assert page.evaluate("document.activeElement.closest('tr').dataset.key") == "c0100"
    press(page, "k")
    assert current(page) == "c0099"
    page.locator('th[data-column="rank"] button').click()
    assert shown(page)[0] == "c1999"


def test_a_hostile_text_is_shown_as_it_is(room):
    assert room.locator("#table tbody tr").first.locator("td.long").nth(1).text_content() == HOSTILE
    assert room.locator("img").count() == 0


def test_the_words_that_differ_are_marked(room):
    press(room, "5")
    assert shown(room) == ["reader_0010", "reader_0005", "reader_0000"]  # least alike first
    press(room, "j", "j")
    assert current(room) == "reader_0005"
    diff = room.locator("#diff")
    assert diff.locator("del").all_inner_texts() == ["spoken on a"]
    assert diff.locator("ins").all_inner_texts() == ["open an"]
    assert "recognition: wrong text" in room.locator("#reasons").inner_text()


def test_an_empty_list_says_what_to_make(visit, room_folder, tmp_path):
    missing = [{"stage": "diarize", "lacks": "no speakers"}]
    page = visit(rewritten(room_folder, tmp_path / "bare", speakers=[], missing=missing))
    assert "make diarize" in page.locator(".notice").inner_text()
    press(page, "3")
    assert "make diarize" in page.locator("#empty").inner_text()


# ---------------------------------------------------------------------------- for everybody


def nodes(page):
    """The accessibility tree as a screen reader gets it: (role, name) of what isn't ignored."""
    session = page.context.new_cdp_session(page)
    tree = session.send("Accessibility.getFullAXTree")["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in tree if not node["ignored"]
    ]


CONTROLS = {
    "button", "textbox", "searchbox", "combobox", "checkbox", "slider", "spinbutton", "tab", "link", "listbox",
    "dialog", "table", "image", "tabpanel", "group", "tablist",
}  # fmt: skip


@pytest.mark.parametrize("keys", ["j", "3j", "3jj", "2j?", "5j"])
def test_everything_has_a_name_a_screen_reader_can_say(room, keys):
    press(room, *keys)
    found = nodes(room)
    assert [(role, name) for role, name in found if role in CONTROLS and not name] == []
    names = [name for role, name in found if role == "button"]
    assert len(names) > 4 or "?" in keys


def test_landmarks_headings_and_language(room):
    press(room, "j")
    roles = [role for role, _ in nodes(room)]
    assert {"banner", "main", "complementary", "search", "tabpanel", "status"} <= set(roles)
    levels = room.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter((h) => h.checkVisibility()).map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert room.locator("html").get_attribute("lang") == "en"
    assert room.locator("#text").get_attribute("lang") == "en"
    assert room.evaluate(
        "[...document.querySelectorAll('[id]')].map((e) => e.id).length === new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    )


def test_tab_reaches_every_control_and_shows_where_it_is(room):
    room.evaluate("choose(view.rows[0].key, false)")
    reached = []
    for _ in range(120):
        press(room, "Tab")
        facts = room.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
            return e === document.body ? null : {id: e.id || e.className || e.textContent, outline: s.outlineStyle, width: parseFloat(s.outlineWidth), size: Math.min(r.width, r.height)} }"""
        )
        if facts is None:
            break
        assert facts["outline"] != "none", facts
        assert facts["width"] >= 2, facts
        reached.append(facts["id"])
    assert reached[0] == "skip"
    wanted = "save load help-open filter-column filter-text filter-verdict scroll play seek good bad text speaker note"
    assert set(wanted.split()) <= set(reached)


def test_targets_are_big_enough_to_hit(room):
    press(room, "j")
    small = room.evaluate(
        """[...document.querySelectorAll('button, select, input:not([type=checkbox]), textarea')]
        .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width)
        .filter((e) => Math.min(e.getBoundingClientRect().width, e.getBoundingClientRect().height) < 24).map((e) => e.outerHTML)"""
    )
    assert small == []


CONTRAST = """() => {
  const parse = (text) => { const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true}); c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = []; let seen = 0;
  const judge = (e, what) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) poor.push([what, ratio.toFixed(2)]);
  };
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (node.data.trim() && e.checkVisibility() && !e.closest('script, noscript')) judge(e, node.data.trim().slice(0, 40));
  }
  for (const e of document.querySelectorAll('input, select, textarea')) if (e.checkVisibility()) judge(e, e.id);
  return [seen, poor];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, room_folder, tmp_path, scheme):
    missing = [{"stage": "quality_report", "lacks": "no suspects"}]
    page = visit(rewritten(room_folder, tmp_path / "x", missing=missing), color_scheme=scheme)
    page.locator("#advance").uncheck()
    load(page, "wrong")
    for keys in ("jg", "jb", "3jb", "jjm", "2j", "?"):
        press(page, *keys)
        seen, poor = page.evaluate(CONTRAST)
        assert seen > 20
        assert poor == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 21, 25)") == (scheme == "dark")


@pytest.mark.parametrize("width", [400, 320])
def test_a_narrow_window_holds_the_page_and_the_controls_stay_in_sight(visit, room_folder, width):
    page = visit(room_folder / "index.html", viewport={"width": width, "height": 800})
    for keys in ("j", "jjj", "3j"):
        press(page, *keys)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("#play", "tr.current .pick"):
            box = page.locator(name).bounding_box()
            assert 0 <= box["y"] <= 800 - box["height"], (keys, name)
        row, panel = page.locator("tr.current").bounding_box(), page.locator("#detail").bounding_box()
        assert row["y"] + row["height"] <= panel["y"] + 1


def test_nothing_moves_for_those_who_asked_for_less_motion(visit, room_folder):
    page = visit(room_folder / "index.html", reduced_motion="reduce")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter((e) => { const s = getComputedStyle(e); return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none' }).length"
    )
    assert moving == 0
