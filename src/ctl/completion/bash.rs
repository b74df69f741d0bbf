//! [`Bash`]: completion in bash, where names of remotes need care. bash takes `:` and `@` for ends of words, and clap's own
//! script hands over what bash took for words.

use clap::Command;
use clap_complete::env::{self, EnvCompleter};
use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::Path;

/// Words are parted by blanks alone, and of the answer bash gets what stands behind its own last word end: that is what it
/// replaces.
const SCRIPT: &str = r#"_NAME() {
    local line=${COMP_LINE:0:COMP_POINT} words current
    # Without -r, so that a blank after a backslash parts no words.
    # shellcheck disable=SC2162
    read -a words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=('')
    mapfile -t COMPREPLY < <(
        VARIABLE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) COMPLETER -- "${words[@]}" 2>/dev/null
    )
    current=${words[-1]}
    COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*[$COMP_WORDBREAKS]}"}"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -F _NAME NAME
"#;

/// bash 4 or newer.
pub struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == self.name()
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        _: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let completer = crate::ctl::next::quoted(completer);
        let script = SCRIPT.replace("NAME", name).replace("VARIABLE", variable).replace("COMPLETER", &completer);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        env::Bash.write_complete(command, words, directory, out)
    }
}
