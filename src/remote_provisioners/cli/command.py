"""What all subcommands of ``jupyter remote`` have in common."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, NoReturn

from jupyter_core.application import JupyterApp, base_aliases, base_flags
from traitlets import TraitError, Unicode
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, KVArgParseConfigLoader

from .. import __version__
from ..errors import RemoteProvisionerError
from ..io_thread import close_io_thread
from ..options.kinds import readable
from .standard_streams import why_failed

#: Exit codes: the command failed; the command line is wrong.
FAILED, MISUSED = 1, 2

#: The configuration files of applications that host provisioners. We read them too.
_HOSTING_CONFIGS = (
    "jupyter_server_config",
    "jupyter_lab_config",
    "jupyter_notebook_config",
    "jupyter_kernel_gateway_config",
)


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant who wrote a word that is not known."""
    found = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def dashed(option: str) -> str:
    """An option as it is written on a command line."""
    return f"-{option}" if len(option) == 1 else f"--{option}"


def _unknown_option(written: str, known: Iterable[str]) -> CommandError:
    option = dashed(written.lstrip("-").split("=")[0])
    close = meant(option, map(dashed, known))
    return CommandError(f"unknown option {option}{close} (see --help)", MISUSED)


@contextlib.asynccontextmanager
async def using_hosts() -> AsyncIterator[None]:
    """Leave the hosts at the end of the block: say goodbye to their agents."""
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.to_thread(close_io_thread)


class CommandError(Exception):
    """The command cannot continue. The message is all that the user needs to see."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class _StrictLoader(KVArgParseConfigLoader):
    """Treat an unknown option as an error. traitlets only warns and ignores it."""

    def _parse_args(self, args: Any) -> None:
        self.parser.error = self._misused  # type: ignore[method-assign]
        super()._parse_args(args)

    def _misused(self, message: str) -> NoReturn:
        # argparse reads every word with a leading dash as an option that needs a value.
        option = re.match(r"argument (-+([\w-]+)):", message)
        if option and option[2] not in self.aliases:
            raise _unknown_option(option[1], [*self.aliases, *self.flags])
        raise CommandError(f"{message} (see --help)", MISUSED)

    def _handle_unrecognized_alias(self, arg: str) -> None:
        raise _unknown_option(arg, [*self.aliases, *self.flags])


class Text(Unicode[str, Any]):
    """Text as given. traitlets' own type expands a leading ~ on this machine."""

    def from_string(self, s: str) -> str:
        return s


class Command(JupyterApp):
    """A subcommand. `run` does the work; an error becomes one line on stderr and an exit code."""

    version = __version__
    # JupyterApp's own concern generated configuration files and prompts, which we do not have.
    aliases = {n: base_aliases[n] for n in ("config", "log-level")}  # noqa: RUF012
    flags = {"debug": base_flags["debug"]}  # noqa: RUF012
    #: Whether this command also reads the configuration of hosting applications.
    reads_hosting_config = False

    def _log_level_default(self) -> int:
        return logging.WARNING

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> _StrictLoader:
        return _StrictLoader(
            argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands
        )

    def initialize(self, argv: Any = None) -> None:
        # The command itself reports what the package would log as a warning.
        logging.getLogger("remote_provisioners").addHandler(logging.NullHandler())
        try:
            super().initialize(argv)
        except (CommandError, RemoteProvisionerError) as error:
            self._end(error)

    def update_config(self, config: Config) -> None:
        """Take options. An invalid value is an error as any other."""
        try:
            super().update_config(config)
        except TraitError as error:
            raise CommandError(readable(error), MISUSED) from None

    def emit_examples(self) -> Generator[str, None, None]:
        """Indent all lines alike; traitlets' own method indents the first line less."""
        if self.examples:
            yield "Examples\n========\n"
            yield textwrap.indent(textwrap.dedent(str(self.examples)).strip("\n"), "    ")
            yield ""

    def load_config_file(self, suppress_errors: bool = True) -> None:  # type: ignore[override]
        """Read our configuration file and those of hosting applications, for `initialize`."""
        super().load_config_file(suppress_errors)
        for name in _HOSTING_CONFIGS if self.reads_hosting_config else ():
            try:
                super(JupyterApp, self).load_config_file(name, path=self.config_file_paths)
            except ConfigFileNotFound:
                continue

    def start(self) -> None:
        super().start()  # runs a subcommand, which raises NoStart
        try:
            status = self.run()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._end(CommandError(why_failed(error)))
        except (CommandError, RemoteProvisionerError) as error:
            self._end(error)
        except KeyboardInterrupt:
            self._end(CommandError("interrupted", 130))
        if status:
            self.exit(status)

    def run(self) -> int:
        """Run the command. Returns the exit code. Raises CommandError, RemoteProvisionerError."""
        if self.extra_args:
            word = str(self.extra_args[0])
            known = f"known: {', '.join(self.subcommands)}"
            raise CommandError(
                f"unknown subcommand {word!r}{meant(word, self.subcommands)} ({known})", MISUSED
            )
        self.print_help()
        return MISUSED

    def words(self, most: int | None, what: str) -> list[str]:
        """The arguments that are not options, at most `most`. Raises CommandError."""
        words = [str(word) for word in self.extra_args]
        if wrong := [word for word in words if word.startswith("-")]:
            raise _unknown_option(wrong[0], [*self.aliases, *self.flags])
        if most is not None and len(words) > most:
            raise CommandError(f"this command takes {what}, not {' '.join(words)!r}", MISUSED)
        return words

    def complain(self, error: object) -> None:
        """Print an error or a text on stderr, after the command's name."""
        text = getattr(error, "unbroken", error)
        print(f"{self.name.replace('-', ' ')}: {text}", file=sys.stderr, flush=True)

    def _end(self, error: Exception) -> NoReturn:
        self.complain(error)
        self.exit(getattr(error, "status", FAILED) if isinstance(error, CommandError) else FAILED)
        raise AssertionError("unreachable")
