//! The scripts that so many pages on the web have: inotifywait, and one rsync for each of its lines. Some send the whole
//! tree each time; others what the line names, or the folder in which it was.

use super::{Running, Tool, first_line};
use crate::stand::Stand;
use std::process::Command;

pub struct Script {
    name: &'static str,
    setup: &'static str,
    /// `$1` is the source, `$2` the password file, the others are the remotes.
    text: &'static str,
}

impl Script {
    pub fn whole_tree() -> Self {
        Self {
            name: "inotifywait tree",
            setup: "`inotifywait -mrq --format '%w%f' … | while read`, and for each line `rsync -a --delete` of the tree",
            text: r#"
source=$1 password=$2
shift 2
inotifywait -mrq -e close_write,create,delete,move,attrib --format '%w%f' "$source" |
while read -r path; do
    for remote in "$@"; do
        rsync -a --delete --password-file="$password" "$source/" "$remote"
    done
done
"#,
        }
    }

    pub fn one_file() -> Self {
        Self {
            name: "inotifywait file",
            setup: "the same with `rsync -aR --delete` of the path in the line, or of its folder where it is gone",
            text: r#"
source=$1 password=$2
shift 2
cd "$source" || exit
inotifywait -mrq -e close_write,create,delete,move,attrib --format '%w%f' . |
while read -r path; do
    [ -e "$path" ] || [ -L "$path" ] || path=$(dirname "$path")/
    for remote in "$@"; do
        rsync -aR --delete --password-file="$password" "$path" "$remote"
    done
done
"#,
        }
    }
}

impl Tool for Script {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> Result<String, String> {
        first_line("inotifywait", &["--help"])
    }

    fn setup(&self) -> String {
        self.setup.to_owned()
    }

    fn start(&self, stand: &Stand) -> Running {
        let mut bash = Command::new("bash");
        bash.args(["-c", self.text, "mirror"]).arg(stand.source()).arg(stand.password_file()).args(stand.urls());
        Running::command(&mut bash, stand)
    }
}
