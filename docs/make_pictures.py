"""Makes the README's pictures anew: the report, the usage page and the asset graph, of this build, on the samples.

    make screenshots
    python docs/make_pictures.py usage-page     only this one; the others are report and asset-graph

Needs chromium. The report is what `kharcha run` prints to a terminal; the usage page is shown at the widths of a desk
and of a phone, as of the evening of the samples' last day; the graph is a screenshot of Dagster's own web interface,
started by `kharcha dev`, after it has built everything. All run on a copy of the samples in a temporary directory.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import ioctl
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import uvicorn
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from starlette.applications import Starlette
from websockets.sync.client import connect

from kharcha_pipeline.page.routes import page_routes

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
SAMPLE_HOME = DOCS.parent / "data" / "sample" / "home"
KHARCHA = [str(Path(sys.executable).with_name("kharcha"))]
COLUMNS = 118
SETTLING = 15.0
"""Seconds in which a page of Dagster loads its data and fits the graph into the window."""
WINDOW = {"width": 3200, "height": 1300}
"""Wide enough that the page shows every asset in full."""
SCALE = 0.75
GROUPS = ("landing", "events", "pricing", "rollups", "published")
CLOSE_SIDE_PANEL = """
    let panel = document.querySelector('input[placeholder^="Jump to"]');
    while (!panel.querySelector('button')) panel = panel.parentElement;
    panel.querySelector('button').click();
"""
GRAPH_BOX = """(() => {
    const boxes = [...document.querySelectorAll('svg foreignObject')].map(node => node.getBoundingClientRect());
    const left = Math.min(...boxes.map(box => box.left)) - 30, top = Math.min(...boxes.map(box => box.top)) - 30;
    const right = Math.max(...boxes.map(box => box.right)) + 30;
    const bottom = Math.max(...boxes.map(box => box.bottom)) + 30;
    return JSON.stringify({x: left, y: top, width: right - left, height: bottom - top});
})()"""
EVENING = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
"""When the usage page is looked at: on the last day of the samples."""
END_OF = "document.querySelector('#{}').closest('section').getBoundingClientRect().bottom + scrollY + 16"
"""How far down a picture of the usage page goes: to the end of the section with that heading."""
USAGE_PAGES = (
    ("usage-page", "light", 1440, 1.0, END_OF.format("year")),
    ("usage-page-dark", "dark", 1440, 1.0, END_OF.format("year")),
    ("usage-page-phone", "light", 390, 2.0, END_OF.format("days")),
)
"""Name of the picture, colours, width, pixels per pixel, and where it ends."""
LONGEST_WAIT = 240.0
"""Seconds until Dagster must have started and built everything."""

TEXT = (220, 225, 230)
THEME = TerminalTheme(
    (22, 27, 34),
    TEXT,
    [
        (72, 79, 88),
        (255, 123, 114),
        (126, 231, 135),
        (242, 204, 96),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        TEXT,
    ],
)
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Rich's own form of picture without its font, which would be loaded from elsewhere."""


def main() -> None:
    """Makes the pictures that are named, or all."""
    wanted = sys.argv[1:] or ["report", "usage-page", "asset-graph"]
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kharcha-pictures-") as directory:
        machine = copied_machine(Path(directory))
        if "report" in wanted:
            picture_of_report(machine)
        if "usage-page" in wanted:
            pictures_of_usage_page(machine, Path(directory))
        if "asset-graph" in wanted:
            picture_of_asset_graph(machine | {"KHARCHA_DATA_DIR": f"{directory}/for-dagster"}, Path(directory))


def copied_machine(directory: Path) -> dict[str, str]:
    """The environment of a machine whose agents wrote the sample logs."""
    home = directory / "home"
    shutil.copytree(SAMPLE_HOME, home)
    passed_on = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return passed_on | {
        "HOME": str(home),
        "KHARCHA_DATA_DIR": str(directory / "data"),
        "KHARCHA_TIMEZONE": "Europe/Berlin",
        "TERM": "xterm-256color",
    }


def picture_of_report(machine: Mapping[str, str]) -> None:
    """What `kharcha run` prints, colours included, as an SVG."""
    printed = Text.from_ansi(run_in_terminal([*KHARCHA, "run"], machine).replace("\r\n", "\n").rstrip())
    printed = Text.assemble(("$ ", "bold"), ("make run\n", "bold green"), printed)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(printed)
    svg = console.export_svg(title="Kharcha Pipeline", theme=THEME, code_format=SVG, unique_id="report")
    (PICTURES / "report.svg").write_text(svg, "utf-8")


def pictures_of_usage_page(machine: Mapping[str, str], directory: Path) -> None:
    """The usage page in light and dark at a desk, and on a phone."""
    subprocess.run([*KHARCHA, "sync", "--quiet"], env=dict(machine), check=True)
    published = Path(machine["KHARCHA_DATA_DIR"]) / "kharcha.duckdb"
    with duckdb.connect(str(published)) as connection:  # as if it had been synced that evening
        connection.execute("UPDATE about SET value = ? WHERE name = 'published_at'", [EVENING.isoformat()])
        connection.execute("UPDATE sync_runs SET finished_at = ?", [EVENING])
    with usage_page(published) as address, browser(directory) as show:
        clock = f"Date.now = () => {int(EVENING.timestamp() + 240) * 1000}"
        show("Page.enable")  # else the page is not told of the clock
        show("Page.addScriptToEvaluateOnNewDocument", source=clock)
        for name, scheme, width, scale, end in USAGE_PAGES:
            show("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=scale, mobile=False)
            show("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            show("Page.navigate", url=address)
            time.sleep(2)
            height = show("Runtime.evaluate", expression=end, returnByValue=True)["result"]["value"]
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            taken = show("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            (PICTURES / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def usage_page(published: Path) -> Iterator[str]:
    """The usage page on a server of its own; yields its address."""
    port = free_port()
    application = Starlette(routes=page_routes(published, now=lambda: EVENING))
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


def run_in_terminal(program: list[str], environment: Mapping[str, str]) -> str:
    """What a program prints when it writes to a terminal of `COLUMNS` columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    with subprocess.Popen(program, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the terminal ends with the program
                break
            if not data:
                break
            printed += data
    os.close(ours)
    if process.returncode:
        sys.exit(f"{' '.join(program)} failed:\n{printed.decode()}")
    return printed.decode()


def picture_of_asset_graph(machine: Mapping[str, str], directory: Path) -> None:
    """Dagster's asset graph after it has landed the logs and built, checked and published all days by itself."""
    with dagster(machine, directory) as address, browser(directory) as show:
        build_everything(address)
        show("Emulation.setDeviceMetricsOverride", **WINDOW, deviceScaleFactor=1, mobile=False)
        groups = ",".join(f"global@global:{group}" for group in GROUPS)  # as the page itself names open groups
        show("Page.navigate", url=f"{address}/asset-groups?expanded={groups}")
        time.sleep(SETTLING)
        show("Runtime.evaluate", expression=CLOSE_SIDE_PANEL)
        time.sleep(SETTLING)
        box = show("Runtime.evaluate", expression=GRAPH_BOX, returnByValue=True)["result"]["value"]
        taken = show("Page.captureScreenshot", clip=json.loads(box) | {"scale": SCALE})
    (PICTURES / "asset-graph.png").write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(directory: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """A chromium of its own; yields a function that sends it one command of its debugging protocol."""
    port = free_port()
    process = subprocess.Popen(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--remote-debugging-port={port}",
            f"--user-data-dir={directory / 'chromium'}",
            "about:blank",
        ],
        env=dict(os.environ) | {"HOME": str(directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(page_address(port), max_size=None) as socket_:
            number = count()

            def show(method: str, **parameters: Any) -> dict[str, Any]:
                asked = next(number)
                socket_.send(json.dumps({"id": asked, "method": method, "params": parameters}))
                while True:
                    answer = json.loads(socket_.recv(timeout=60))
                    if answer.get("id") == asked:
                        return dict(answer["result"])

            yield show
    finally:
        process.terminate()
        process.wait(30)


def page_address(port: int) -> str:
    """Where the browser's first page takes commands, once it has started."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                return next(str(page["webSocketDebuggerUrl"]) for page in json.load(answer) if page["type"] == "page")
        except (OSError, StopIteration):
            time.sleep(0.5)
    sys.exit("chromium did not start.")


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def chromium() -> str:
    """The browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or sys.exit("The pictures need chromium, which is not installed.")


@contextmanager
def dagster(machine: Mapping[str, str], directory: Path) -> Iterator[str]:
    """`kharcha dev` while it is needed; yields its address."""
    port = free_port()
    with (directory / "dagster.log").open("wb") as log:
        process = subprocess.Popen(
            [*KHARCHA, "dev", "--host", "127.0.0.1", "--port", str(port)],
            env=dict(machine),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def build_everything(address: str) -> None:
    """Starts the job `land`; the sensor then builds what it touched. Returns when nothing is left to run."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not asked(address, "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"):
        if time.monotonic() > deadline:
            sys.exit("Dagster did not start in time.")
        time.sleep(1)
    asked(
        address,
        """mutation { launchRun(executionParams: {mode: "default", selector: {jobName: "land",
            repositoryName: "__repository__", repositoryLocationName: "kharcha_pipeline"}}) { __typename } }""",
    )
    finished = 0
    while time.monotonic() < deadline:
        time.sleep(40)  # longer than the sensor's interval, so that it has looked again
        states = [run["status"] for run in asked(address, "{ runsOrError { ... on Runs { results { status } } } }")]
        if len(states) > 1 and len(states) == finished and set(states) == {"SUCCESS"}:
            return
        finished = sum(state == "SUCCESS" for state in states)
    sys.exit("Dagster did not build all days in time.")


def asked(address: str, query: str) -> list[dict[str, Any]]:
    """The list a GraphQL query leads to; empty while Dagster starts."""
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            (found,) = json.load(answer)["data"].values()
    except (OSError, KeyError, TypeError):
        return []
    return next((value for value in found.values() if isinstance(value, list)), [])


if __name__ == "__main__":
    main()
