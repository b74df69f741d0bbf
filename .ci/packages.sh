# shellcheck shell=bash
# Sourced by ./demo, ./test and .ci/run: brings in the Debian packages that they need, never silently.

# ensure_packages PACKAGE…: installs those that are not there. Says the command first, and asks where somebody sits at
# the terminal.
ensure_packages() {
    local package absent=() install=(apt-get install -y --no-install-recommends)
    # Not a Debian: what is missing will be missed by name.
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        # shellcheck disable=SC2016  # dpkg-query expands it
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || absent+=("$package")
    done
    ((${#absent[@]} > 0)) || return 0
    ((EUID == 0)) || install=(sudo "${install[@]}")
    printf 'Needed and not installed: %s\n    %s %s\n' "${absent[*]}" "${install[*]}" "${absent[*]}"
    if [[ -t 0 && ${CI:-} != true ]]; then
        read -r -p 'Run this now? [y/N] ' answer
        [[ $answer == [yY]* ]] || return 1
    fi
    local lists=(apt-get update -q)
    ((EUID == 0)) || lists=(sudo "${lists[@]}")
    "${lists[@]}" && DEBIAN_FRONTEND=noninteractive "${install[@]}" "${absent[@]}"
}

# ensure_rust: says where Rust comes from when it is not there.
ensure_rust() {
    command -v cargo >/dev/null && return
    # rustup writes there, and a shell that was open before does not know it yet.
    if [[ -x $HOME/.cargo/bin/cargo ]]; then
        PATH=$HOME/.cargo/bin:$PATH
        return
    fi
    printf 'Rust is missing. Debian 12 has an older one than this needs; it comes from rustup:\n' >&2
    printf "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh\n" >&2
    return 1
}
