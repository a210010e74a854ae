/**
 * What `keepgate completion SHELL` prints: for each shell the few lines that ask `keepgate __complete` (completion.ts) at
 * each Tab. They know no command and no option, so that none of them is ever older than the program.
 */

const bash = String.raw`# bash completion of keepgate.  In ~/.bashrc:  source <(keepgate completion bash)
_keepgate() {
  local -a answer
  local line strip typed="$2"
  COMPREPLY=()
  mapfile -t answer < <(keepgate __complete bash -- "${'$'}{COMP_LINE:0:COMP_POINT}" 2>/dev/null)
  case "${'$'}{answer[0]}" in
    files)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$typed")
      ;;
    directories)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -d -- "$typed")
      ;;
    words)
      # bash takes words apart at = and :, and replaces what stands behind the last of them.
      strip="${'$'}{answer[1]%"$typed"}"
      for line in "${'$'}{answer[@]:2}"; do
        line="${'$'}{line%%$'\t'*}"
        COMPREPLY+=("${'$'}{line#"$strip"}")
      done
      ;;
  esac
}
complete -F _keepgate keepgate`;

const zsh = String.raw`#compdef keepgate
# zsh completion of keepgate.  In ~/.zshrc, after compinit:  source <(keepgate completion zsh)
# or as the file _keepgate in a directory of $fpath.
_keepgate() {
  local -a answer candidates
  local line
  answer=("${'$'}{(@f)$(keepgate __complete zsh -- "${'$'}{(@Q)words[2,CURRENT-1]}" "${'$'}{(Q)PREFIX}" 2>/dev/null)}")
  case $answer[1] in
    files)
      [[ $PREFIX == --*=* ]] && compset -P '*='
      _files
      ;;
    directories)
      [[ $PREFIX == --*=* ]] && compset -P '*='
      _files -/
      ;;
    words)
      for line in "${'$'}{(@)answer[3,-1]}"; do
        candidates+=("${'$'}{${'$'}{line%%$'\t'*}//:/\\:}:${'$'}{line#*$'\t'}")
      done
      _describe -t words keepgate candidates
      ;;
  esac
}
if [[ $funcstack[1] == _keepgate ]]; then
  _keepgate "$@"
else
  compdef _keepgate keepgate
fi`;

const fish = String.raw`# fish completion of keepgate.  keepgate completion fish > ~/.config/fish/completions/keepgate.fish
function __keepgate_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l answer (keepgate __complete fish -- $before[2..-1] (string unescape -- "$current"; or echo "$current") 2>/dev/null)
    set -l option (string match -r -- '^--[^=]*=' "$current")
    set -l value (string replace -r -- '^--[^=]*=' '' "$current")
    switch "$answer[1]"
        case files directories
            # What fish offers a command that it knows nothing of: files, also after ~/.
            for path in (complete -C "'' $value")
                test "$answer[1]" = files; or string match -q '*/' -- "$path"; and echo "$option$path"
            end
        case words
            printf '%s\n' $answer[3..-1]
    end
end
complete -c keepgate -f -a '(__keepgate_complete)'`;

export const completionScripts = { bash, zsh, fish } as const;
