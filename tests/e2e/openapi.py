"""The document of the API, and whether answers are as it says."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import yaml

from remote_provisioners.server.api.routes import DOCUMENT

from .applications import Server

_HTTP_STATUSES_WITHOUT_BODY = ("204",)


class DocumentedApi:
    """Speaks to the API of `server`; each answer has to be one that is documented."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.document = yaml.safe_load(DOCUMENT.read_text())
        self.root = self.document["servers"][0]["url"]
        #: The operations that were used, and the statuses that were answered.
        self.used: set[tuple[str, str]] = set()

    @property
    def operations(self) -> set[str]:
        return {
            operation["operationId"]
            for path in self.document["paths"].values()
            for method, operation in path.items()
            if method != "parameters"
        }

    def ask(self, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
        status, answer = self._server.ask(method, f"{self.root}{path}", body)
        operation = self._operation(method, path)
        if body is not None and expect < 400:
            request = operation["requestBody"]["content"]["application/json"]["schema"]
            self.check(body, request)
        assert status == expect, (status, answer)
        documented = operation["responses"].get(str(status))
        assert documented is not None, f"{method} {path}: {status} is not documented"
        if "$ref" in documented:
            documented = self.document["components"]["responses"][documented["$ref"].split("/")[-1]]
        if str(status) not in _HTTP_STATUSES_WITHOUT_BODY:
            self.check(answer, documented["content"]["application/json"]["schema"])
        self.used.add((operation["operationId"], str(status)))
        return answer

    def check(self, value: Any, schema: Any) -> None:
        whole = {**schema, "components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)

    def _operation(self, method: str, path: str) -> Any:
        path = urlsplit(path).path
        for template, operations in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return operations[method.lower()]
        raise AssertionError(f"{path} is not documented")
