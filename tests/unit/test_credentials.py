"""What of a request is Jupyter's, and what an application on a host may get."""

from __future__ import annotations

import pytest

from remote_provisioners.server.ports import credentials


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("_xsrf=2|1; a=1; username-localhost-8888=x", "a=1"),
        ("jupyterhub-session-id=1; jupyterhub-user-ann=2; _streamlit_xsrf=3", "_streamlit_xsrf=3"),
        ("own-login=x; own=y", "own=y"),
        ("", ""),
        (" ; =; a", "=; a"),
        ('a="b; _xsrf=c"', 'a="b'),
    ],
)
def test_cookies(header: str, kept: str) -> None:
    assert credentials.other_cookies(header, ["own-login"]) == kept


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("token=abc", ""),
        ("a=1&token=abc&b=%20&&c", "a=1&b=%20&&c"),
        ("%74oken=abc&tokens=1", "tokens=1"),
        ("_xsrf=1&x", "x"),
        ("", ""),
    ],
)
def test_queries(query: str, kept: str) -> None:
    assert credentials.other_parameters(query) == kept
    assert credentials.without_token(f"http://h/lab?{query}") == f"http://h/lab?{kept}".rstrip("?")


@pytest.mark.parametrize(
    ("authorization", "login"),
    [("token abc", True), ("Bearer abc", True), ("Basic abc", False), ("", False)],
)
def test_authorization(authorization: str, login: bool) -> None:
    assert credentials.is_login(authorization) is login


def test_an_application_sets_no_cookie_of_jupyters() -> None:
    assert credentials.sets_other_cookie("app=1; Path=/")
    assert not credentials.sets_other_cookie(" _xsrf=1; Path=/")
    assert not credentials.sets_other_cookie("username-localhost=1")
