//! [`needs`]: what an instance asks of the machine around it, before it starts: for systemd's generators.
//!
//! It is read from the config's words alone. No other file is opened and no path is looked at: at that time nothing
//! need be mounted, and whoever touches an automount point then waits for himself. So what the words are worth is not
//! judged here: a config with mistakes elsewhere has its needs too.

use super::reading::Reading;
use super::source::Source;
use super::tree::{self, Element};
use super::{Mistakes, credential};
use std::path::{Path, PathBuf};

/// What an instance asks of the machine around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The watched directories.
    pub watched: Vec<PathBuf>,
    /// Directories of this machine that are remotes.
    pub remotes: Vec<PathBuf>,
    /// Where it keeps what is pending, if not in its usual place.
    pub state: Option<PathBuf>,
    /// The credentials that it wants from systemd.
    pub credentials: Vec<String>,
    /// Other files that it reads: passwords, keys, patterns.
    pub files: Vec<PathBuf>,
}

/// The needs of the config that `bytes`, read from `origin`, is; all the mistakes where its elements cannot be told apart.
pub fn needs(bytes: &[u8], origin: &Path) -> Result<Needs, Mistakes> {
    let (source, _) = Source::decode(bytes, origin.to_path_buf());
    let mut reading = Reading::new(&source);
    let document = tree::read(&mut reading);
    if reading.has_errors() || !source.lookalikes.is_empty() {
        return Err(Mistakes(reading.into_mistakes()));
    }
    let head = document.roots.iter().find(|element| element.is("head"));
    let sersync = head.and_then(|head| head.child("sersync"));
    let mut found = Needs::default();
    for localpath in sersync.into_iter().flat_map(|sersync| sersync.children("localpath")) {
        found.watched.extend(path(&mut reading, localpath, "watch"));
        for remote in localpath.children("remote") {
            found.remotes.extend(path(&mut reading, remote, "directory"));
        }
    }
    let rsync = sersync.and_then(|sersync| sersync.child("rsync"));
    for (name, file) in [("auth", "passwordfile"), ("ssh", "identity")] {
        let Some(element) = rsync.and_then(|rsync| rsync.child(name)) else { continue };
        if !reading.flag(Some(element), "start", false) {
            continue;
        }
        let name = element.attribute("credential").map(|attribute| attribute.value.trim());
        found.credentials.extend(name.filter(|name| credential::is_name(name)).map(str::to_owned));
        found.files.extend(path(&mut reading, element, file));
    }
    let filter = head.and_then(|head| head.child("filter"));
    for exclude in filter.into_iter().flat_map(|filter| filter.children("exclude")) {
        found.files.extend(path(&mut reading, exclude, "file"));
    }
    let agent = [head, sersync].into_iter().flatten().find_map(|above| above.child("agent"));
    found.state = agent.and_then(|agent| path(&mut reading, agent.child("state")?, "directory"));
    for list in [&mut found.watched, &mut found.remotes] {
        list.sort();
        list.dedup();
    }
    found.credentials.sort();
    found.credentials.dedup();
    Ok(found)
}

fn path(reading: &mut Reading<'_>, element: &Element, attribute: &str) -> Option<PathBuf> {
    element.attribute(attribute)?;
    reading.absolute_path(element, attribute, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_told_from_the_words_alone() {
        let text = r#"<head><filter start="true"><exclude expression="("/><exclude file="/srv/skip"/></filter><sersync>
            <localpath watch="/srv//www/"><remote ip="web1" name="www"/><remote directory="/mnt/copy"/></localpath>
            <localpath watch="relative"><remote directory="/mnt/copy/"/></localpath>
            <rsync><auth start="true" users="b" credential="sersync.www.password"/>
              <ssh start="false" credential="unused" identity="/unused"/></rsync>
            <agent><state directory="/srv/state"/></agent></sersync></head>"#;
        assert_eq!(
            needs(text.as_bytes(), Path::new("www.xml")).unwrap(),
            Needs {
                watched: vec!["/srv/www".into()],
                remotes: vec!["/mnt/copy".into()],
                state: Some("/srv/state".into()),
                credentials: vec!["sersync.www.password".into()],
                files: vec!["/srv/skip".into()],
            }
        );
    }

    #[test]
    fn of_what_is_no_config_are_none() {
        for broken in ["<head><sersync><localpath watch=\"/a\">", "<head", "<a></b>"] {
            assert!(needs(broken.as_bytes(), Path::new("www.xml")).is_err(), "{broken}");
        }
        for empty in ["<other/>", "<head/>"] {
            assert_eq!(needs(empty.as_bytes(), Path::new("www.xml")).unwrap(), Needs::default());
        }
    }
}
