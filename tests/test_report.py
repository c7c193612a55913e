"""report: one page of a project, made from its runs' JSON, opened in a browser."""

import re
from pathlib import Path

import pytest

import collect
import preprocess
import report
from voxmake.report.project import Stage, graph


@pytest.fixture
def made(project):
    """make(flags): run the project's two stages; page(flags): its report, as text."""
    config = project / "x.yaml"
    # One bad file, so that something is rejected; a stage that nobody makes here, so that something is to do.
    (project / "recordings" / "audio" / "clip0003.wav").write_bytes(b"no sound")
    config.write_text(config.read_text().replace("[preprocess]", "[encode_units]"))
    flags = ["--config", str(config), "--set", "execution.max_rejected_ratio=0.5"]

    class Made:
        folder = project / "page"
        index = project / "page" / "index.html"

        def make(self, *more: str) -> None:
            for script in (collect, preprocess):
                assert script.main([*flags, *more]) == 0

        def report(self, *more: str) -> int:
            return report.main([*flags, "--output", str(self.folder), *more])

        def page(self, *more: str) -> str:
            assert self.report(*more) == 0
            return self.index.read_text()

    return Made()


def section(page: str, name: str) -> str:
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_each_stage_has_its_state_numbers_rejections_and_sounds(made):
    made.make()
    page = made.page()
    assert re.findall(r'<section id="(\w+)">', page) == ["collect", "preprocess", "encode_units"]
    assert "2 of 3 stages are made" in page
    told = section(page, "collect") + section(page, "preprocess")
    assert "6 in, 5 out, 1 rejected" in told
    assert "convert it to WAV or FLAC" in told  # of not_audio: what to do
    assert "make encode_units CONFIG=" in section(page, "encode_units")
    sounds = re.findall(r'<audio [^>]*src="([^"]+)"', section(page, "preprocess"))
    assert len(sounds) == 4 and all((made.folder / sound).stat().st_size > 1000 for sound in sounds)
    for address in re.findall(r'href="([^"#]+)"', page):
        assert (made.folder / address).exists(), address
    assert "Compared with" not in page
    assert made.page() == page


def test_it_compares_with_the_run_before_and_with_the_one_that_is_named(made, project):
    made.make()
    first = next((project / "data" / "runs" / "preprocess").glob("*/MANIFEST.sha256")).parent
    made.make("--set", "audio.target_db=-23")
    louder = ("--set", "audio.target_db=-23")
    told = section(made.page(*louder), "preprocess")
    assert f"Compared with {first.name}" in told
    change = re.search(r"<td[^>]*>keys\.audio\.target_db</td><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>", told)
    assert change.groups() == ("-20.0", "-23.0")
    pairs = re.findall(r'<li>(before|now)<audio [^>]*src="([^"]+)"', told)
    assert len(pairs) == 8
    before, now = ((made.folder / pairs[number][1]).read_bytes() for number in (0, 1))
    assert before != now
    assert "Compared with" in section(made.page("--against", f"preprocess/{first.name}", *louder), "preprocess")
    assert made.report("--against", str(first.parent / "nothing")) == 2


def test_it_is_readable_in_a_browser_wide_and_narrow(made, visit):
    made.make()
    made.make("--set", "audio.target_db=-23")
    made.page("--set", "audio.target_db=-23")
    for width in (1280, 400):
        for scheme in ("light", "dark"):
            page = visit(made.index, viewport={"width": width, "height": 900}, color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("svg a").count() == 3
            page.locator("svg a[href='#preprocess']").click()
            assert page.evaluate("location.hash") == "#preprocess"
            sound = page.locator("#preprocess audio").first
            # As a promise: the page's policy lets no other script run, a poll neither.
            loaded = (
                "sound => new Promise(done => { sound.onloadedmetadata = () => done(sound.duration); sound.load(); })"
            )
            assert sound.evaluate(f"sound => {{ sound.preload = 'auto'; return ({loaded})(sound); }}") > 0.4
            page.locator("#preprocess details").last.locator("summary").click()
            assert page.get_by_text("keys.audio.target_db").is_visible()


def test_nothing_made_and_a_foreign_page_are_told(made, capsys):
    assert made.report() == 65
    assert "make all CONFIG=" in capsys.readouterr().err
    assert not made.index.exists()
    made.make()
    made.folder.mkdir(exist_ok=True)
    made.index.write_text("mine")
    assert made.report() == 73
    assert made.index.read_text() == "mine"


def test_the_graph_has_no_crossing_shortcuts_and_no_boxes_on_each_other():
    def stage(name: str, *after: str) -> Stage:
        return Stage(name, "", "to do", Path(name), list(after))

    found = graph(
        [stage("a"), stage("b", "a"), stage("c", "a", "b"), stage("d", "b"), stage("e"), stage("f", "e", "d")]
    )
    places = {node["stage"].name: (node["x"], node["y"]) for node in found["nodes"]}
    assert len(found["lines"]) == 5  # not a to c: b is on the way
    assert places["a"][1] == places["e"][1] < places["b"][1] < places["c"][1] == places["d"][1] < places["f"][1]
    width, height = found["box"]
    boxes = sorted(places.values())
    assert all(abs(x - u) >= width or abs(y - v) >= height for x, y in boxes for u, v in boxes if (x, y) != (u, v))
    assert len(set(boxes)) == 6
    assert max(x for x, _ in boxes) + width <= found["width"]
