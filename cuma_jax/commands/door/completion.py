"""What a shell completes: scripts for bash, zsh and fish, which ask `words` at every TAB. Nothing heavy is imported."""

from collections.abc import Callable, Sequence

SCRIPTS = {
    "bash": r"""_cuma() {
    local IFS=$'\n'
    COMPREPLY=($("$1" completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _cuma cuma
""",
    "zsh": r"""#compdef cuma
_cuma() {
    local -a found
    found=("${(@f)$("${words[1]}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n ${found[1]} ]]; then compadd -- "${found[@]}"; else _files; fi
}
if [[ ${funcstack[1]} == _cuma ]]; then _cuma "$@"; else compdef _cuma cuma; fi
""",
    "fish": r"""function __cuma_words
    set -l before (commandline -opc)
    set -l program $before[1]
    set -e before[1]
    set -l current (commandline -ct)
    set -l found ($program completion words -- $before "$current" 2>/dev/null)
    if test -n "$found"
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c cuma -f -a '(__cuma_words)'
""",
}
"""By shell. Where nothing is known, the shell completes files."""
DATA = ("build", "show", "check", "export")
HELP = """usage: cuma completion bash | zsh | fish

Prints a script that completes commands, flags, presets, methods and machines of `cuma`. To have it in every shell:

  bash   eval "$(cuma completion bash)"       as a line of ~/.bashrc
  zsh    eval "$(cuma completion zsh)"        as a line of ~/.zshrc, below compinit
  fish   cuma completion fish > ~/.config/fish/completions/cuma.fish"""


def words(line: Sequence[str], commands: Sequence[str], flag_lines: Callable[[Sequence[str]], str]) -> list[str]:
    """What the last word of a line may become.

    Args:
        line: the words after `cuma`; the last one, perhaps empty, is completed.
        commands: all that there are.
        flag_lines: prints what a command's flags are, see `flags.flag_lines`; called with the command's words.
    """
    *before, current = [*line[:-1], line[-1].removeprefix("=")] if line else [""]
    before = [word for word in before if word != "="]  # bash makes three words of --flag=value
    if not before:
        return _fitting([*commands, "--help", "--version"], current)
    command, *rest = before
    if command == "completion":
        return _fitting(list(SCRIPTS), current) if not rest else []
    if command == "data" and not rest:
        return _fitting([*DATA, "--help"], current)
    if command not in commands:
        return []
    asked = [command, *rest[:1]] if command == "data" else [command]
    rows = [row.split("\t") for row in flag_lines(asked).splitlines()]
    flags = {name: (takes, values.split()) for name, takes, values in rows}
    flag, equals, _ = current.partition("=")
    if equals:
        return _fitting([f"{flag}={value}" for value in flags.get(_plain(flag), ("", []))[1]], current)
    places = [place for place, word in enumerate(rest) if word.startswith("--")]
    if places:
        takes, values = flags.get(_plain(rest[places[-1]]), ("nothing", []))
        at_once = places[-1] == len(rest) - 1
        if (takes == "one" and at_once) or (takes == "many" and not current.startswith("-")):
            return _fitting(values, current)
    given = {_plain(word.partition("=")[0]) for word in rest}
    free = [name for name in flags if name not in given]
    if "-" in current[2:]:
        free = [f"--{name[2:].replace('_', '-')}" for name in free]
    return _fitting([*free, "--help", "--help-all"], current) if current.startswith("-") else []


def _plain(flag: str) -> str:
    """A flag spelt with underscores."""
    return f"--{flag[2:].replace('-', '_')}"


def _fitting(known: Sequence[str], current: str) -> list[str]:
    return [word for word in known if word.startswith(current)]
