# bash completion for medfusion: commands and options as --help lists them, configuration keys as --help-config does.
_medfusion()
{
    local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]:-} words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$(medfusion --help 2>/dev/null | sed -n 's/^  \([a-z]*\) .*/\1/p')
    elif [[ $current == --* ]]; then
        words=$(medfusion "$command" --help 2>/dev/null | grep -o -- '--[a-z][a-z.-]*')
        if [[ $command =~ ^(serve|worker|backup|restore)$ ]]; then
            words+=" $(medfusion "$command" --help-config 2>/dev/null | sed -n 's/^| `\([a-z_.]*\)`.*/--\1/p')"
        fi
    elif [ "$COMP_CWORD" -eq 2 ] && [[ $command =~ ^(model|dicom|fhir|module)$ ]]; then
        words=$(medfusion "$command" --help 2>/dev/null | grep -oE "medfusion $command [a-z]+" | sed 's/.* //')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default 2>/dev/null
}
complete -F _medfusion medfusion
