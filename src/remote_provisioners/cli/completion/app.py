"""``jupyter remote completion``."""

from __future__ import annotations

from ..command import MISUSED, Command, CommandError, meant
from .shells import SHELLS
from .words import places


class CompletionApp(Command):
    name = "jupyter-remote-completion"
    description = """Print a script that lets your shell complete `jupyter remote`.

    Usage: jupyter remote completion bash|zsh|fish

    The script completes commands and options, for `jupyter remote` and for `jupyter-remote`.
    """
    examples = """
    # bash: in ~/.bashrc
    eval "$(jupyter remote completion bash)"

    # zsh: in ~/.zshrc, after compinit
    eval "$(jupyter remote completion zsh)"

    # fish
    jupyter remote completion fish > ~/.config/fish/completions/jupyter-remote.fish
    ln -s jupyter-remote.fish ~/.config/fish/completions/jupyter.fish
    """

    def run(self) -> int:
        from ..app import RemoteApp  # noqa: PLC0415  # it knows of us

        words = self.words(1, "the name of one shell")
        shell = words[0] if words else ""
        if shell not in SHELLS:
            what = f"unknown shell {shell!r}{meant(shell, SHELLS)}" if shell else "name a shell"
            raise CommandError(f"{what} (known: {', '.join(SHELLS)})", MISUSED)
        print(SHELLS[shell](list(places(RemoteApp))), end="")
        return 0
