"""Programs with web pages, as they are, on a kernel's host, in a real browser.

They are in an environment of their own (make .venv/web), because they need a lot of others. Spark
is in that of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from ..conftest import InstallSpec
from ..rig import Rig
from ..spark import cluster
from .applications import TOKEN, Applications, Server, eventually
from .lab import SECONDS

PYTHON = Path(__file__).parents[2] / ".venv" / "web" / "bin" / "python"
pytestmark = [pytest.mark.browser, pytest.mark.long]

WAIT = 60 * SECONDS
#: The first cell.
START = f"""
import os, pathlib
os.makedirs("/tmp/web", exist_ok=True)
os.chdir("/tmp/web")
os.environ["PATH"] = "{PYTHON.parent}:/usr/bin:/bin"
"""
PREFIX = "/remote-provisioners/kernels/{os.environ['KERNEL_ID']}/proxy/absolute/{port}"


class Visitor:
    """A person's browser, with the pages of one kernel."""

    def __init__(self, browser: Browser, server: Server, kernel_id: str) -> None:
        self.page: Page = browser.new_page()
        self.page.set_default_timeout(WAIT)
        self.server, self.kernel_id = server, kernel_id
        self.sockets: list[str] = []
        self.errors: list[str] = []
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # TensorBoard's fonts have absolute addresses: it shows others.
        self.page.on(
            "response",
            lambda a: (
                a.status >= 400 and "/font-roboto/" not in a.url and self.errors.append(a.url)
            ),
        )
        self.given_up = False
        self.page.on("requestfailed", self._failed)
        self.page.goto(f"http://{server.address}/api?token={TOKEN}")  # logs in

    def cell(self, code: str) -> str:
        said = self.server.run(self.kernel_id, code)
        assert not said.endswith("Error"), said
        return said

    def open(self, path: str) -> None:
        """Open the page, once the program listens."""
        root = f"/remote-provisioners/kernels/{self.kernel_id}/{path}"
        address = f"http://{self.server.address}{root}"

        def there() -> bool:
            return self.page.request.get(address).status == 200

        eventually(there, 60)
        self.errors.clear()
        self.given_up = False
        self.page.goto(address)
        self.complete()

    def complete(self) -> None:
        """Wait for all parts of the page. Load it again where Chromium gave one up.

        It does so when a network interface comes or goes: those of other tests' hosts do.
        """
        for _ in range(4):
            self.page.wait_for_load_state("networkidle")
            if not self.given_up:
                return
            self.given_up = False
            self.errors.clear()
            self.page.reload()

    def _failed(self, request: Request) -> None:
        self.given_up = self.given_up or "NETWORK_CHANGED" in (request.failure or "")


@pytest.fixture
def visitor(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec, browser: Browser
) -> Iterator[Visitor]:
    if not PYTHON.exists():
        pytest.skip("no programs with web pages: make .venv/web")
    kernel = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    install_spec([rig.hosts[0].target], argv=kernel)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        found = Visitor(browser, server, server.start_kernel())
        found.cell(START)
        yield found
        assert found.errors == []


def test_panel(visitor: Visitor) -> None:
    visitor.cell(
        "import panel as pn\n"
        "def app():\n"
        "    button, text = pn.widgets.Button(name='press me'), pn.pane.Str('nothing yet')\n"
        "    button.on_click(lambda event: setattr(text, 'object', 'it was pressed'))\n"
        "    return pn.Column(button, text)\n"
        "running = pn.serve(app, port=5006, threaded=True, show=False)"
    )
    visitor.open("port/5006/")
    visitor.page.get_by_role("button", name="press me").click()
    expect(visitor.page.get_by_text("it was pressed")).to_be_visible(timeout=WAIT)
    assert visitor.sockets


def test_bokeh(visitor: Visitor) -> None:
    visitor.cell(
        "from bokeh.server.server import Server\n"
        "from bokeh.models import Button, Div\n"
        "from bokeh.layouts import column\n"
        "def app(document):\n"
        "    button, div = Button(label='press me'), Div(text='nothing yet')\n"
        "    button.on_click(lambda: div.update(text='it was pressed'))\n"
        "    document.add_root(column(button, div))\n"
        "port = 5007\n"
        f"prefix = f{PREFIX!r}\n"
        "running = Server({'/app': app}, port=port, prefix=prefix)\n"
        "running.start()"
    )
    visitor.open("proxy/absolute/5007/app")
    visitor.page.get_by_role("button", name="press me").click()
    expect(visitor.page.get_by_text("it was pressed")).to_be_visible(timeout=WAIT)
    assert visitor.sockets


@pytest.mark.parametrize("way", ["port", "proxy/absolute"])
def test_streamlit(visitor: Visitor, way: str) -> None:
    visitor.cell(
        "pathlib.Path('app.py').write_text('''\n"
        "import streamlit as st\n"
        "if st.button('press me'):\n"
        "    st.write('it was ' + 'pressed')\n"
        "st.download_button('take it', b'data', 'data.bin')\n"
        "''')\n"
        "port = 8501\n"
        f"os.environ['BASE'] = f{PREFIX!r} if {way!r} != 'port' else ''\n"
    )
    visitor.cell(
        "%%bash --bg\n"
        "streamlit run app.py --server.headless true --browser.gatherUsageStats false"
        " --server.baseUrlPath $BASE/"
    )
    visitor.open(f"{way}/8501/")
    visitor.page.get_by_role("button", name="press me").click()
    expect(visitor.page.get_by_text("it was pressed")).to_be_visible(timeout=WAIT)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("button", name="take it").click()
    assert Path(download.value.path()).read_bytes() == b"data"
    assert visitor.sockets


@pytest.mark.parametrize("way", ["port", "proxy/absolute"])
def test_tensorboard(visitor: Visitor, way: str) -> None:
    visitor.cell(
        "from tensorboard.compat.proto.event_pb2 import Event\n"
        "from tensorboard.compat.proto.summary_pb2 import Summary\n"
        "from tensorboard.summary.writer.event_file_writer import EventFileWriter\n"
        "writer = EventFileWriter('runs')\n"
        "for step in range(3):\n"
        "    value = Summary.Value(tag='a/loss', simple_value=step)\n"
        "    writer.add_event(Event(step=step, summary=Summary(value=[value])))\n"
        "writer.close()\n"
        "port = 6006\n"
        f"os.environ['PREFIX'] = f{PREFIX!r} if {way!r} != 'port' else ''\n"
    )
    if way == "port":
        visitor.cell("%load_ext tensorboard\n%tensorboard --logdir runs --port 6006")
    else:
        visitor.cell("%%bash --bg\ntensorboard --logdir runs --port 6006 --path_prefix $PREFIX")
    visitor.open(f"{way}/6006/")
    expect(visitor.page.get_by_text("loss").first).to_be_visible(timeout=WAIT)


def test_dask(visitor: Visitor) -> None:
    visitor.cell(
        "from dask.distributed import Client\n"
        "client = Client(processes=False, n_workers=1, dashboard_address='127.0.0.1:8787')"
    )
    visitor.open("proxy/8787/status")
    expect(visitor.page.get_by_text("Data Transfer").first).to_be_visible(timeout=WAIT)
    visitor.page.get_by_role("link", name="Workers").first.click()
    visitor.page.wait_for_url("**/proxy/8787/workers")
    expect(visitor.page.get_by_text("nthreads").first).to_be_visible(timeout=WAIT)
    eventually(lambda: len(visitor.sockets) == 2, 60)
    visitor.cell("client.close()")


def test_dash(visitor: Visitor) -> None:
    visitor.cell(
        "from dash import Dash, Input, Output, callback, html\n"
        "port = 8050\n"
        f"app = Dash(url_base_pathname=f{PREFIX + '/'!r})\n"
        "app.layout = html.Div([html.Button('press me', id='button'), html.P(id='text')])\n"
        "@callback(Output('text', 'children'), Input('button', 'n_clicks'))\n"
        "def pressed(count):\n"
        "    return 'it was pressed' if count else 'nothing yet'\n"
        "import threading\n"
        "threading.Thread(target=lambda: app.server.run(port=port), daemon=True).start()"
    )
    visitor.open("proxy/absolute/8050/")
    visitor.page.get_by_role("button", name="press me").click()
    expect(visitor.page.get_by_text("it was pressed")).to_be_visible(timeout=WAIT)


def test_spark(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec, browser: Browser
) -> None:
    if reason := cluster.unavailable():
        pytest.skip(reason)
    install_spec([rig.hosts[0].target])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        visitor = Visitor(browser, server, server.start_kernel())
        page = visitor.page
        visitor.cell(
            "import os\n"
            f"os.environ['JAVA_HOME'] = {cluster.java_home()!r}\n"
            f"os.environ['JAVA_TOOL_OPTIONS'] = {cluster.SHORT_LIVED!r}\n"
            "from pyspark.sql import SparkSession\n"
            "spark = SparkSession.builder.master('local[1]').getOrCreate()\n"
            "spark.sparkContext.setJobDescription('a small job')\n"
            "print(spark.range(9).selectExpr('sum(id)').collect())"
        )
        visitor.open("port/4040/")
        page.wait_for_url("**/port/4040/jobs/")
        visitor.complete()
        expect(page.get_by_text("a small job", exact=True)).to_be_visible(timeout=WAIT)
        expect(page.locator(".navbar").first).to_have_css("display", "flex")
        for link, path, text in (
            ("collect at", "jobs/job/", "Details for Job 0"),
            ("Stages", "stages/", "a small job"),
            ("collect at", "stages/stage/", "PROCESS_LOCAL"),
            ("SQL", "SQL/", "a small job"),
            ("Executors", "executors/", "driver"),
        ):
            page.get_by_role("link", name=link).first.click()
            page.wait_for_url(f"**/port/4040/{path}*")
            visitor.complete()
            expect(page.get_by_text(text).locator("visible=true").first).to_be_visible(timeout=WAIT)
        assert visitor.errors == []
