# bash completion for medfusion: commands, verbs and options as --help lists them, configuration keys as --help-config does.
_medfusion()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]:-} words='' help
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$(medfusion --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p')
    else
        help=$(medfusion "$command" --help 2>/dev/null)
        if [[ $current == --* ]]; then
            words=$(grep -o -- '--[a-z][a-z.-]*' <<<"$help")
            if [[ $command =~ ^(serve|worker|backup|restore)$ ]]; then
                words+=" $(medfusion "$command" --help-config 2>/dev/null | sed -n 's/^| `\([a-z0-9_.]*\)`.*/--\1/p')"
            fi
        elif [[ $previous == --* ]]; then # one of a|b|c, where the usage says so; else a file
            words=$(sed -n "s/.*$previous \([a-z0-9]*\(|[a-z0-9]*\)\+\).*/\1/p" <<<"$help" | tr '|' ' ')
        elif [ "$COMP_CWORD" -eq 2 ]; then # "usage: medfusion model inspect DIR", "outbox retry|drop …"
            words=$(grep -oE "medfusion $command [a-z|]+( |$)" <<<"$help" | sed 's/ *$//; s/.* //' | tr '|' ' ')
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default 2>/dev/null
}
complete -F _medfusion medfusion
