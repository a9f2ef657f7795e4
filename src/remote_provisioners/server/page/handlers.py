"""The page and its files. The page uses the API like any other client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import AuthenticatedFileHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.escape import xhtml_escape

from ..api.base import RESOURCE
from ..api.routes import ROOT

STATIC = Path(__file__).with_name("static")

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Remote hosts</title>
<link rel="stylesheet" href="{static}page.css">
<link rel="stylesheet" href="{static}panel.css">
</head>
<body data-base-url="{base}"{ask}>
<main>
<h1>Remote hosts</h1>
<div id="fleet">{note}</div>
</main>
<script type="module" src="{static}page.js"></script>
</body>
</html>
"""
_NOT_BUILT = (
    "<p>This page was not built: <code>make ui</code> in a checkout builds it; an installed "
    "package has it.</p>"
)


class PageHandler(JupyterHandler):
    """The page. `asks`: whether it asks all hosts when a user opens it."""

    auth_resource = RESOURCE

    def initialize(self, asks: bool = False) -> None:
        self._asks = asks

    @web.authenticated
    @authorized
    def get(self) -> None:
        self.xsrf_token  # noqa: B018 - sets a cookie, which the page sends back with requests
        static = url_path_join(self.base_url, ROOT, "static/")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            _PAGE.format(
                base=xhtml_escape(self.base_url),
                static=xhtml_escape(static),
                ask=' data-ask="true"' if self._asks else "",
                note="" if (STATIC / "page.js").exists() else _NOT_BUILT,
            )
        )


class StaticHandler(AuthenticatedFileHandler):
    """The page's files, for users who may see the page."""

    auth_resource = RESOURCE


def routes(base_url: str, asks: bool = False) -> list[tuple[Any, ...]]:
    page = url_path_join(base_url, ROOT)
    return [
        (f"{page}/?", PageHandler, {"asks": asks}),
        (f"{page}/static/(.*)", StaticHandler, {"path": str(STATIC)}),
    ]
