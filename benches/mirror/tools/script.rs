//! The script that so many pages on the web have: inotifywait, and one rsync of the whole tree for each of its lines.

use super::{Running, Tool, first_line};
use crate::stand::Stand;
use std::process::Command;

pub struct Script;

/// `$1` is the source, `$2` the password file, the others are the remotes.
const SCRIPT: &str = r#"
source=$1 password=$2
shift 2
inotifywait -mrq -e close_write,create,delete,move,attrib --format '%w%f' "$source" |
while read -r path; do
    for remote in "$@"; do
        rsync -a --delete --password-file="$password" "$source/" "$remote"
    done
done
"#;

impl Tool for Script {
    fn name(&self) -> &str {
        "inotifywait script"
    }

    fn version(&self) -> Result<String, String> {
        first_line("inotifywait", &["--help"])
    }

    fn setup(&self) -> String {
        "`inotifywait -mrq --format '%w%f' … | while read`, and for each line `rsync -a --delete` of the tree".to_owned()
    }

    fn start(&self, stand: &Stand) -> Running {
        let mut bash = Command::new("bash");
        bash.args(["-c", SCRIPT, "mirror"]).arg(stand.source()).arg(stand.password_file()).args(stand.urls());
        Running::command(&mut bash, stand)
    }
}
