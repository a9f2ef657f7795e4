"""The scripts. All words are in them, so that pressing Tab starts no program. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .words import Place


def bash(places: Sequence[Place]) -> str:
    words = "\n".join(
        f'        "{place.path}") words="{" ".join(word.text for word in place.words)}" ;;'
        for place in places
    )
    return f"""\
# bash completion for jupyter remote; written by: jupyter remote completion bash
_jupyter_remote() {{
    local at=1 path="" next words=""
    [ "${{COMP_WORDS[0]##*/}}" = jupyter ] && at=2
    for (( ; at < COMP_CWORD; at++ )); do
        next="$path${{path:+ }}${{COMP_WORDS[at]}}"
        case "$next" in
            {_known(places)}) path="$next" ;;
        esac
    done
    case "$path" in
{words}
    esac
    # shellcheck disable=SC2207
    COMPREPLY=( $(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}") )
    case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
    return 0
}}
_jupyter_remote_of_jupyter() {{
    if [ "$COMP_CWORD" -gt 1 ] && [ "${{COMP_WORDS[1]}}" = remote ]; then
        _jupyter_remote
    elif [ -n "$_jupyter_remote_before" ]; then
        "$_jupyter_remote_before" "$@"
    elif [ "$COMP_CWORD" -eq 1 ]; then
        # shellcheck disable=SC2207
        COMPREPLY=( $(compgen -W remote -- "${{COMP_WORDS[1]}}") )
    fi
}}
# Whatever completed `jupyter` before still does.
_jupyter_remote_before=$(complete -p jupyter 2>/dev/null | sed -n 's/.* -F \\([^ ]*\\).*/\\1/p')
[ "$_jupyter_remote_before" = _jupyter_remote_of_jupyter ] && _jupyter_remote_before=""
complete -o default -F _jupyter_remote jupyter-remote
complete -o default -F _jupyter_remote_of_jupyter jupyter
"""


def zsh(places: Sequence[Place]) -> str:
    cases = []
    for place in places:
        found = " ".join(
            shlex.quote(f"{word.text}:{word.help}" if word.help else word.text)
            for word in place.words
        )
        cases.append(f'        "{place.path}") found=({found}) ;;')
    words = "\n".join(cases)
    return f"""\
#compdef jupyter-remote
# zsh completion for jupyter remote; written by: jupyter remote completion zsh
_jupyter_remote() {{
    local at=2 at_path="" next
    local -a found
    for (( ; at < CURRENT; at++ )); do
        next="$at_path${{at_path:+ }}$words[at]"
        case "$next" in
            {_known(places)}) at_path="$next" ;;
        esac
    done
    case "$at_path" in
{words}
    esac
    _describe 'jupyter remote' found -S '' || _files
}}
_jupyter_remote_of_jupyter() {{
    if (( CURRENT > 2 )) && [[ $words[2] == remote ]]; then
        shift words
        (( CURRENT-- ))
        _jupyter_remote
    elif [[ -n $_jupyter_remote_before ]]; then
        $_jupyter_remote_before
    elif (( CURRENT == 2 )); then
        compadd remote
    else
        _files
    fi
}}
# Whatever completed `jupyter` before still does.
if [[ ${{_comps[jupyter]}} != _jupyter_remote_of_jupyter ]]; then
    _jupyter_remote_before=${{_comps[jupyter]}}
fi
compdef _jupyter_remote jupyter-remote
compdef _jupyter_remote_of_jupyter jupyter
"""


def fish(places: Sequence[Place]) -> str:
    lines = []
    for place in places:
        at = shlex.quote(f"__jupyter_remote_at {_fish(place.path)}")
        for word in place.words:
            help_text = _fish(word.help)
            name = word.text.rstrip("=")
            if name.startswith("--"):
                what = f"-l {name[2:]}" + (" -r" if word.text.endswith("=") else "")
            elif name.startswith("-"):
                what = f"-s {name[1:]}"
            else:
                what = f"-a {name}"
            lines += [f"complete -c {command} -n {at} {what} -d {help_text}" for command in _NAMES]
    words = "\n".join(lines)
    known = " ".join(_fish(place.path) for place in places if place.path)
    return f"""\
# fish completion for jupyter remote; written by: jupyter remote completion fish
function __jupyter_remote_at
    set -l words (commandline -opc)
    if not string match -q '*jupyter-remote' -- $words[1]
        test "$words[2]" = remote; or return 1
        set -e words[1]
    end
    set -e words[1]
    set -l path ""
    for word in $words
        set -l next (string trim -- "$path $word")
        contains -- "$next" {known}; and set path "$next"
    end
    test "$path" = "$argv[1]"
end
complete -c jupyter -n 'test (count (commandline -opc)) = 1' -a remote -d 'Kernels on hosts'
{words}
"""


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
_NAMES = ("jupyter", "jupyter-remote")


def _known(places: Sequence[Place]) -> str:
    """A pattern of a shell's `case` for the paths of all commands."""
    return "|".join(f'"{place.path}"' for place in places if place.path)


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
