"""The stock OHIF viewer in a real browser shows a blinded reading, and nothing that tells more.

`bin/get-ohif` fetches the viewer (`make test` calls it); Chromium is Debian's. The viewer has an
origin of its own, so that this also tries the cross-origin rules of the API with a real browser.
"""

import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from werkzeug.serving import make_server

from api_support import make_api
from blinded_support import BlindedStudy, Lumbar, Viewer, start_blinded
from browser import OPTIONS, open_page
from halfscan_api import archive
from halfscan_api.enrolment.watcher import watcher

pytest_plugins = ["api_fixtures", "blinded_fixtures"]

PROJECT = Path(__file__).resolve().parents[1]
DIST = PROJECT / ".ohif" / "dist"
CONFIGURATION = PROJECT / "examples" / "ohif" / "app-config.js"
# The viewer's tour for new users covers the page, and the mouse reaches the image or not.
TOUR_SEEN = """localStorage.setItem("shownTours", '["basicViewerTour"]');\n"""
WIDTH, HEIGHT = 1400, 900
Grey = npt.NDArray[np.float64]


@pytest.fixture
def chromium() -> str:
    """Path of the browser."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    if not (DIST / "index.html").exists():
        pytest.skip("the OHIF viewer is not here: bin/get-ohif .ohif fetches it")
    return found


class _Pages(SimpleHTTPRequestHandler):
    """The viewer at the root of its own port; what is no file is the viewer itself."""

    configuration = b""
    extensions_map = {  # noqa: RUF012 - as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
        ".js": "text/javascript",
    }

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/app-config.js":
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(self.configuration)))
            self.end_headers()
            self.wfile.write(self.configuration)
            return
        if not (DIST / path.lstrip("/")).is_file():
            self.path = "/index.html"
        super().do_GET()

    def end_headers(self) -> None:
        # The viewer's shared memory needs an isolated page.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(
    lumbar: Lumbar, api_sqlite_template: Path, tmp_path: Path, api_environment: None
) -> Iterator[tuple[BlindedStudy, str]]:
    """A study whose API and viewer have ports of their own; gives it and the viewer's origin."""
    path = tmp_path / "halfscan.db"
    path.write_bytes(api_sqlite_template.read_bytes())
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=str(DIST)))
    origin = f"http://127.0.0.1:{pages.server_port}"
    api = make_api(
        f"sqlite:///{path}", orthanc_url=lumbar.orthanc_url, cors_origins=f"http://x,{origin}"
    )
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert text.count("http://127.0.0.1:8780") == 1
    address = f"http://127.0.0.1:{server.server_port}"
    _Pages.configuration = (TOUR_SEEN + text.replace("http://127.0.0.1:8780", address)).encode()
    threads = [threading.Thread(target=one.serve_forever) for one in (pages, server)]
    for thread in threads:
        thread.start()
    try:
        yield BlindedStudy(start_blinded(api, lumbar), lumbar), origin
    finally:
        for one in (pages, server):
            one.shutdown()
            one.server_close()
        for thread in threads:
            thread.join()
        watcher(api.app).close()
        archive.close(api.app)
        api.database.dispose()


def browse(chromium: str, url: str, folder: Path, *what: str) -> str:
    """Open a page and give what the browser prints."""
    options = (
        *OPTIONS,
        *(f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=60000"),
        f"--user-data-dir={folder / 'profile'}",
    )
    run = subprocess.run(
        [chromium, *options, *what, url], capture_output=True, text=True, timeout=240, check=True
    )
    return run.stdout


def address(viewer: Viewer, origin: str) -> str:
    token = viewer.reading.play.tokens[viewer.reading.reader]
    query = f"StudyInstanceUIDs={viewer.study_uid}&reading={viewer.reading.code}&token={token}"
    return f"{origin}/viewer?{query}"


def text_of(dom: str) -> str:
    """What a person reads on the page."""
    body = re.sub(r"<(script|style)[\s\S]*?</\1>", "", dom[dom.index("<body") :])
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).strip()


def words_of(text: str) -> list[str]:
    """The words of a page, without the window and what comes and goes while it loads."""
    assert "Scrolling Through Images" not in text, "the tour for new users is over the page"
    stays = re.sub(r"[WL]: ?[0-9]+", "", text)
    return [word for word in stays.split() if len(word) > 1]  # marks of orientation


def best_correlation(screen: Grey, picture: Grey) -> float:
    """Highest correlation of a picture with the screen, where a viewport may show it.

    The viewer fits the square image into the height of its viewport, in the middle of what the
    panel on the left leaves.
    """
    best = 0.0
    for side in range(800, 861, 4):
        scaled = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        expected = np.asarray(scaled)[::4, ::4]
        for top in range(40, min(64, HEIGHT - side), 4):
            for left in range(841 - side // 2 - 12, 841 - side // 2 + 13, 4):
                shown = screen[top : top + side, left : left + side][::4, ::4]
                best = max(best, float(np.corrcoef(shown.ravel(), expected.ravel())[0, 1]))
    return best


def picture(viewer: Viewer, index: int) -> Grey:
    path = viewer.instance_path("sag_t1", index)
    content = viewer.get(f"{path}/rendered", "image/png").data
    return np.asarray(Image.open(io.BytesIO(content)), dtype=np.float64)


@pytest.mark.timeout(600)
def test_the_viewer_shows_a_reading_and_nothing_more(
    site: tuple[BlindedStudy, str], chromium: str, tmp_path: Path
) -> None:
    study, origin = site

    def look(viewer: Viewer) -> str:
        folder = tmp_path / viewer.reading.code
        folder.mkdir()
        shot = folder / "shot.png"
        url = address(viewer, origin)
        dom = browse(chromium, url, folder, f"--screenshot={shot}", "--dump-dom")
        screen = np.asarray(Image.open(shot).convert("L"), dtype=np.float64)
        assert screen.shape == (HEIGHT, WIDTH)
        pictures = [picture(viewer, index) for index in range(4)]
        found = [best_correlation(screen, one) for one in pictures]
        turned = best_correlation(screen, pictures[int(np.argmax(found))].T)
        assert max(found) > 0.9, found
        assert turned < 0.7, turned
        _check_untold(dom, study)
        return text_of(dom)

    told = study.both_arms(look)
    for text in told.values():
        assert "Sagittal T2, fat-suppressed" in text
        assert "Blinded reading" in text
    # The window follows from the pixels; all other text is the same in both arms.
    assert words_of(told["standard"]) == words_of(told["accelerated"])


def _check_untold(dom: str, study: BlindedStudy) -> None:
    lumbar = study.lumbar
    archived = [
        *(uid for arm in lumbar.series[0].values() for uid in arm.values()),
        *(lumbar.study_uid(), lumbar.truth[0]["patient_id"], lumbar.truth[0]["folder"]),
    ]
    words = ["accelerated", "fast", "_tse_", "LSPINE", "numerical phantom", "HALFSCAN", "2025"]
    for word in [*archived, *words]:
        assert word not in text_of(dom), word
    for uid in archived:
        assert uid not in dom, uid


def test_another_origin_may_not_call(site: tuple[BlindedStudy, str]) -> None:
    """The same address from a page that no setting names: the browser is told nothing."""
    study, origin = site
    viewer = study.open()
    for asking, allowed in ((origin, origin), ("http://elsewhere.example", None)):
        headers = {"Origin": asking, "Access-Control-Request-Method": "GET"}
        preflight = viewer.ask("/studies", method="OPTIONS", headers=headers)
        answer = viewer.ask("/studies", headers={"Origin": asking})
        for one in (preflight, answer):
            assert one.status_code == 200
            assert one.headers.get("Access-Control-Allow-Origin") == allowed
            assert "Origin" in one.vary


READY = """(() => {
  if (!window.services?.viewportGridService?.serviceImplementation?._getState) return null;
  const id = window.services.viewportGridService.getActiveViewportId();
  const shown = id && window.services.cornerstoneViewportService.getCornerstoneViewport(id);
  if (!shown?.getCurrentImageId?.() || !shown.getImageData?.()) return null;
  const box = shown.canvas.getBoundingClientRect();
  return {x: box.x, y: box.y, width: box.width, height: box.height};
})()"""
ELLIPSE = "window.commandsManager.runCommand('setToolActiveToolbar', {toolName: 'EllipticalROI'})"
MEASURED = """(() => {
  const [one] = window.services.measurementService.getMeasurements();
  const [stats] = Object.values(one?.data ?? {});
  return stats?.mean && stats?.stdDev && one ? {uid: one.uid, ...stats} : null;
})()"""
STORE = """(async () => {
  const service = window.services.measurementService;
  const [one] = service.getMeasurements();
  service.update(one.uid, {...one, label: LABEL}, true);
  await window.commandsManager.runCommand('storeMeasurements', {
    measurementData: service.getMeasurements(),
    dataSource: window.extensionManager.getActiveDataSource()[0],
    additionalFindingTypes: ['ArrowAnnotate'],
    options: {SeriesDescription: 'Measurements'},
  }, 'CORNERSTONE_STRUCTURED_REPORT');
  return true;
})()"""


@pytest.mark.timeout(600)
def test_what_the_viewer_measures_is_filed(
    site: tuple[BlindedStudy, str], chromium: str, tmp_path: Path
) -> None:
    """An ellipse drawn with the mouse, stored as the report that the viewer itself writes."""
    study, origin = site
    viewer = study.open()
    with open_page(chromium, tmp_path, width=WIDTH, height=HEIGHT) as page:
        page.open(address(viewer, origin))
        box = page.wait_for(READY)
        page.run(ELLIPSE)
        centre = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.drag(centre, (centre[0] + 60, centre[1] + 40))
        shown = page.wait_for(MEASURED)
        assert page.run(STORE.replace("LABEL", json.dumps("Disc L3/L4")))
    [filed] = viewer.reading.show()["answers"]["measurements"]
    assert (filed["region"], filed["source"]) == ("disc_L3_L4", "report")
    assert filed["mean"] == pytest.approx(shown["mean"], rel=1e-6)
    assert filed["sd"] == pytest.approx(shown["stdDev"], rel=1e-6)
    assert filed["area_mm2"] == pytest.approx(shown["area"], rel=1e-6)
    assert study.play.verify()["holds"]
