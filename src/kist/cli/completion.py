"""`kist completion bash|zsh|fish`: a small script for the shell that asks `kist __complete` at every Tab."""

from __future__ import annotations

from kist.cli.context import Context
from kist.cli.parse import Parsed

# A word with = or : comes to bash in pieces: they are put together again, and what bash has already is cut off again.
BASH = r"""# bash completion of kist: source <(kist completion bash)
_kist_complete() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() word i line found directive current cut
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i == 0)) || [[ $rest == [[:space:]]* ]]; then
            words+=("")
        fi
        rest=${rest#"${rest%%[![:space:]]*}"}
        if ((i == COMP_CWORD)); then
            word=$rest
        fi
        words[${#words[@]} - 1]+=$word
        rest=${rest#"$word"}
    done
    COMPREPLY=()
    found=$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null) || return
    directive=${found##*:}
    current=${words[${#words[@]} - 1]}
    if [[ $current == -*=* ]]; then
        current=${current#*=}
    fi
    cut=""
    if [[ $COMP_WORDBREAKS == *[=:]* && $current == *[=:]* ]]; then
        cut=${current%"${current##*[=:]}"}
    fi
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        if [[ $line != :* && $line == "$current"* ]]; then
            COMPREPLY+=("${line#"$cut"}")
        fi
    done <<<"$found"
    if ((directive == 2)); then
        compopt -o nospace
    elif ((directive == 0 && ${#COMPREPLY[@]} == 0)); then
        compopt -o default
    fi
}
complete -F _kist_complete kist
"""

ZSH = r"""#compdef kist
# zsh completion of kist: kist completion zsh >"${fpath[1]}/_kist", or source <(kist completion zsh)
_kist() {
    local -a lines plain given space
    local directive line value about
    given=("${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}")
    lines=("${(@f)$("${words[1]}" __complete "${given[@]}" 2>/dev/null)}")
    directive=${lines[-1]#:}
    lines[-1]=()
    if [[ $PREFIX == -*=* ]]; then
        compset -P 1 '*='
    fi
    for line in "${lines[@]}"; do
        value=${line%%$'\t'*}
        about=""
        if [[ $line == *$'\t'* ]]; then
            about=${line#*$'\t'}
        fi
        plain+=("${value//:/\\:}${about:+:$about}")
    done
    if ((directive == 2)); then
        space=(-S '')
    fi
    if ((${#plain} > 0)); then
        _describe -t kist kist plain "${space[@]}"
    elif [[ $directive == 0 ]]; then
        _files
    fi
}
if [[ $funcstack[1] == _kist ]]; then
    _kist "$@"
else
    compdef _kist kist
fi
"""

FISH = r"""# fish completion of kist: kist completion fish | source
function __kist_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l lines (command $words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    set -l directive $lines[-1]
    set -e lines[-1]
    set -l prefix (string match -r -- '^-[^=]*=' "$current")
    if test (count $lines) -eq 0
        if test "$directive" = ":0"
            __fish_complete_path "$current"
        end
        return
    end
    for line in $lines
        printf '%s\n' "$prefix$line"
    end
end
complete -c kist -e
complete -c kist -f -a '(__kist_complete)'
"""


def bash(context: Context, options: Parsed) -> int:
    print(BASH, end="")
    return 0


def zsh(context: Context, options: Parsed) -> int:
    print(ZSH, end="")
    return 0


def fish(context: Context, options: Parsed) -> int:
    print(FISH, end="")
    return 0
