"""Jupyter kernels on other machines: kernel provisioners that need nothing but SSH."""

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """By jupyter_server, for `jpserver_extensions`: where the extension is."""
    return [{"module": f"{__name__}.server.extension", "name": __name__}]
