//! Every option of lsyncd that is known: what it is here, or why it is nothing here. docs/from-lsyncd.md says the same.

use crate::language::text;

/// Options of `rsync = {…}` that are on or off, and rsync's words for them.
pub(super) const FLAGS: [(&str, &str); 28] = [
    ("acls", "-A"),
    ("archive", "-a"),
    ("backup", "-b"),
    ("checksum", "-c"),
    ("compress", "-z"),
    ("copy_dirlinks", "-k"),
    ("copy_links", "-L"),
    ("copy_unsafe_links", "--copy-unsafe-links"),
    ("executability", "-E"),
    ("existing", "--existing"),
    ("group", "-g"),
    ("hard_links", "-H"),
    ("inplace", "--inplace"),
    ("ipv4", "-4"),
    ("ipv6", "-6"),
    ("keep_dirlinks", "-K"),
    ("links", "-l"),
    ("omit_dir_times", "-O"),
    ("omit_link_times", "-J"),
    ("one_file_system", "-x"),
    ("owner", "-o"),
    ("partial", "--partial"),
    ("perms", "-p"),
    ("prune_empty_dirs", "-m"),
    ("sparse", "-S"),
    ("times", "-t"),
    ("whole_file", "-W"),
    ("xattrs", "-X"),
];

/// Those of them that `-a` has, and that can be taken out of it.
pub(super) const IN_ARCHIVE: [&str; 5] = ["group", "links", "owner", "perms", "times"];

/// Options of `rsync = {…}` with a value.
pub(super) const VALUES: [(&str, &str); 10] = [
    ("backup_dir", "--backup-dir"),
    ("bwlimit", "--bwlimit"),
    ("chmod", "--chmod"),
    ("chown", "--chown"),
    ("groupmap", "--groupmap"),
    ("partial_dir", "--partial-dir"),
    ("rsync_path", "--rsync-path"),
    ("suffix", "--suffix"),
    ("temp_dir", "--temp-dir"),
    ("usermap", "--usermap"),
];

/// Options of `rsync = {…}` that each run decides by itself.
pub(super) const NEEDLESS_FLAGS: [&str; 5] = ["force", "ignore_times", "protect_args", "quiet", "verbose"];

/// Options of `rsync = {…}` that are neither.
pub(super) const OTHER_RSYNC: [&str; 11] = [
    "_extra",
    "append",
    "append_verify",
    "binary",
    "cvs_exclude",
    "delete_excluded",
    "dry_run",
    "password_file",
    "rsh",
    "timeout",
    "update",
];

/// What needs no setting here, and what stands for it.
pub(super) const NEEDLESS: [(&str, &str); 12] = [
    ("insist", text!("a remote that is down at start is tried again without end")),
    ("log", text!("sersyncctl monitor, and systemctl service-log-level sersync@NAME debug")),
    ("logfacility", text!("the journal has it")),
    ("logfile", text!("journalctl -u sersync@NAME")),
    ("logident", text!("the journal knows the unit")),
    ("maxDelays", text!("what is pending is bounded by <pending limit>, and folded")),
    ("nodaemon", text!("systemd runs it")),
    ("pidfile", text!("systemd knows the process")),
    ("rsyncps", text!("what is deleted is on the list of the run that deletes it")),
    ("statusFile", text!("sersyncctl status NAME")),
    ("statusInterval", text!("sersyncctl status NAME is of this moment")),
    ("xargs", text!("what ssh deletes and moves there is sent as a list")),
];

/// Options that are not kept, and why.
pub(super) const LOST: [(&str, &str); 12] = [
    (
        "action",
        text!("a function of Lua is not run; the plugin `command` runs a program for each path: docs/plugins.md"),
    ),
    ("collect", text!("a function of Lua is not run; a failure is kept and tried again")),
    ("crontab", text!("write <crontab start=\"true\" calendar=\"…\"/> into <sersync>")),
    ("exitcodes", text!("any exit status but 0 is a failure, and is tried again")),
    ("rsyncExitCodes", text!("any exit status but 0 is a failure, and is tried again")),
    ("sshExitCodes", text!("any exit status but 0 is a failure, and is tried again")),
    ("full", text!("a function of Lua is not run")),
    ("onepass", text!("`sersyncctl resync NAME` compares once, an agent watches")),
    ("prepare", text!("a function of Lua is not run")),
    ("tunnel", text!("write the way into ssh_config(5), such as ProxyJump")),
    ("filter", text!("rules that take in again have no counterpart; write <exclude pattern=\"…\"/>")),
    ("filterFrom", text!("rules that take in again have no counterpart; write <exclude file=\"…\"/>")),
];

/// Without these more would be sent or deleted than was meant.
pub(super) const GUARDS: [&str; 5] = ["exclude", "excludeFrom", "delete", "filter", "filterFrom"];

/// Options of rsync that cannot be kept and without which more would be sent or deleted than was meant, or the tree would
/// be mirrored where nothing was.
pub(super) const GUARD_OPTIONS: [&str; 10] = [
    "include",
    "include-from",
    "filter",
    "cvs-exclude",
    "files-from",
    "remove-source-files",
    "remove-sent-files",
    "dry-run",
    "list-only",
    "ignore-existing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_has_every_option() {
        let text = include_str!("../../../../docs/from-lsyncd.md");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        let names = FLAGS.iter().chain(&VALUES).chain(&NEEDLESS).chain(&LOST).map(|(name, _)| *name);
        let others = NEEDLESS_FLAGS.iter().chain(&OTHER_RSYNC).chain(&GUARDS).copied();
        for name in names.chain(others) {
            let is_there = rows.iter().any(|row| row.contains(&format!("`{name}`")));
            assert!(is_there, "docs/from-lsyncd.md has no row for {name}");
        }
    }
}
