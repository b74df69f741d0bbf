//! What is to be done for a remote, as the text of a shell script: for people, when they want to do by hand what the
//! agent will do by itself.
//!
//! The text is for any POSIX shell and calls rsync with the options of the agent's own runs. Whatever bytes a name
//! holds, none of them means anything to the shell, and none that moves a cursor is in the text. No password is in
//! it. Nothing here runs it.
//!
//! It does less than a run of the agent where rsync alone cannot do more: under a `<filter>` no directory is compared
//! as a whole, and on the remote none goes that holds anything.

use super::endpoint::{Endpoint, Form};
use super::shell::{push_format, push_word};
use super::{Capabilities, plan, push_path};
use crate::config::Destination;
use crate::human;
use crate::path::RelPath;
use crate::pending::Kind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is to be done for one remote.
#[derive(Debug, Clone)]
pub struct Chore {
    /// The watched root.
    pub root: PathBuf,
    /// Whether anything may be deleted on the remote.
    pub delete: bool,
    /// Whether anything is excluded.
    pub is_filtered: bool,
    /// What is known of the remote.
    pub capabilities: Capabilities,
    /// The file that the password is from.
    pub password_file: Option<PathBuf>,
    /// The paths, and what they need.
    pub paths: Vec<(RelPath, Kind)>,
}

impl Endpoint {
    /// The lines of a script that does `chore`; they set `status` to 1 when something fails. Looks at the disk.
    pub fn script(&self, chore: &Chore) -> Vec<u8> {
        let mut script = Script { endpoint: self, chore, text: Vec::new() };
        script.write();
        script.text
    }
}

struct Script<'a> {
    endpoint: &'a Endpoint,
    chore: &'a Chore,
    text: Vec<u8>,
}

impl Script<'_> {
    fn write(&mut self) {
        let of_kind = |kind: Kind| -> Vec<RelPath> {
            self.chore.paths.iter().filter(|(_, needed)| *needed == kind).map(|(path, _)| path.clone()).collect()
        };
        let [attributes, mut entries, pruned, mut trees, verified] =
            [Kind::Attributes, Kind::Entry, Kind::Pruned, Kind::Tree, Kind::VerifiedTree].map(of_kind);
        // The script sends everything that exists when it runs.
        trees.extend(pruned);
        let mut compared = 0;
        for (kind, trees) in [(Kind::Tree, trees), (Kind::VerifiedTree, verified)] {
            let plan = self.look(&trees);
            entries.extend(plan.entries.into_iter().chain(plan.missing));
            if self.chore.is_filtered {
                compared += plan.directories.len();
            } else {
                let ignore_times = kind == Kind::VerifiedTree;
                let form = Form::Trees { ignore_times, delete: self.chore.delete, at_most: None, root: false };
                self.run(form, &plan::topmost_only(plan.directories));
            }
        }
        for (ignore_times, paths) in [(true, entries), (false, attributes)] {
            let plan = self.look(&paths);
            let mut named = [plan.directories, plan.entries, plan.missing].concat();
            named.sort_unstable();
            named.dedup();
            let (delete, force) = (self.chore.delete, self.chore.delete && !self.chore.is_filtered);
            self.run(
                Form::Entries {
                    below: false,
                    ignore_times,
                    delete,
                    force,
                    brief: false,
                    whole: false,
                    progress: false,
                },
                &named,
            );
        }
        if compared > 0 {
            let directories = human::plural(compared as u64, "directory", "directories");
            let why = "under a <filter> only sersync itself can do that: sersyncctl retry";
            self.line(&format!("# {directories} to be compared as a whole: {why}"));
        }
    }

    /// What of `paths` is there now. All of it, where the root itself cannot be looked at.
    fn look(&self, paths: &[RelPath]) -> plan::Plan {
        match plan::open_root(&self.chore.root) {
            Ok((root, _)) => plan::look(root.as_fd(), paths, false),
            Err(_) => plan::Plan { entries: paths.to_vec(), ..plan::Plan::default() },
        }
        .without(|path| self.endpoint.leaves_out(path))
    }

    fn run(&mut self, form: Form, paths: &[RelPath]) {
        if paths.is_empty() {
            return;
        }
        let line = self.endpoint.command_line(form, self.chore.capabilities);
        let mut arguments = line.arguments;
        let wants_password = matches!(self.endpoint.destination(), Destination::Daemon { password: Some(_), .. });
        self.line("(");
        match &self.chore.password_file {
            Some(file) if wants_password => {
                let mut option = std::ffi::OsString::from("--password-file=");
                option.push(file);
                arguments.insert(0, option);
            }
            None if wants_password => self.line("# The password has to be in RSYNC_PASSWORD."),
            _ => {}
        }
        self.text.extend_from_slice(b"cd -- ");
        push_word(&mut self.text, self.chore.root.as_os_str().as_bytes());
        self.line(" || exit 1");
        // As in the agent: a disk that is not mounted must not empty the remote.
        self.line("[ -n \"$(ls -A)\" ] || { echo 'The watched directory is empty: nothing is done.' >&2; exit 1; }");
        self.line("{");
        for path in paths {
            let mut named = Vec::new();
            push_path(&mut named, path);
            self.text.extend_from_slice(b"printf '");
            push_format(&mut self.text, &named);
            self.line("'");
        }
        self.text.extend_from_slice(b"} | rsync");
        for argument in arguments {
            self.text.push(b' ');
            push_word(&mut self.text, argument.as_bytes());
        }
        self.line("\n) || status=1");
    }

    fn line(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        self.text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RsyncOptions, Secret};
    use std::path::Path;

    fn chore(root: &Path, paths: &[(&str, Kind)]) -> Chore {
        let paths = paths.iter().map(|(path, kind)| (RelPath::new(path.as_bytes()).unwrap(), *kind)).collect();
        Chore {
            root: root.to_owned(),
            delete: true,
            is_filtered: false,
            capabilities: Capabilities::default(),
            password_file: Some("/etc/it's a file".into()),
            paths,
        }
    }

    fn text(chore: &Chore) -> String {
        let destination = Destination::Daemon {
            user: Some("backup".into()),
            host: "web1".into(),
            port: None,
            module: "www".into(),
            password: Some(Secret::new("hunter2".into())),
        };
        let options = RsyncOptions {
            params: vec!["-a".into()],
            selections: Vec::new(),
            ssh: Vec::new(),
            timeout: None,
            password_file: None,
            may_read: Vec::new(),
            keep_deleted: None,
        };
        String::from_utf8(Endpoint::new(destination, &options).script(chore)).unwrap()
    }

    #[test]
    fn each_kind_has_its_run_and_no_run_the_password() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tree")).unwrap();
        let all = [("gone/a", Kind::Entry), ("tree", Kind::Tree), ("tree", Kind::Attributes), ("lost", Kind::Tree)];
        let script = text(&chore(root.path(), &all));
        assert_eq!(script.matches("| rsync ").count(), 3, "{script}");
        assert!(!script.contains("hunter2") && script.contains("'--password-file=/etc/it'\\''s a file'"), "{script}");
        assert!(script.contains("printf 'gone\\000'\nprintf 'lost\\000'\n"), "the topmost that is gone: {script}");
        let (tree, entries) = script.split_once("--delete-missing-args").unwrap();
        assert!(tree.contains("--recursive") && tree.contains("--delete --force"), "{script}");
        assert!(!entries.contains("--recursive"), "{script}");

        let filtered = Chore { is_filtered: true, password_file: None, ..chore(root.path(), &all) };
        let script = text(&filtered);
        assert!(!script.contains("--recursive") && !script.contains("--force"), "{script}");
        assert!(script.contains("RSYNC_PASSWORD.") && script.contains("# 1 directory to be compared"), "{script}");
    }
}
