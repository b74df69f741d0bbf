//! The instance's name: what `sersync@NAME.service`, the bus name and the state directory have in common.

use std::path::Path;

/// D-Bus names hold at most 255 bytes; `org.sersync.Agent1.` takes 19 of them.
const ESCAPED_LIMIT: usize = 255 - "org.sersync.Agent1.".len();

/// Why a name cannot be an instance's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceNameError {
    /// The config's file name gives none.
    #[error("the config file {0:?} gives the instance no name: call it NAME.xml, or give --instance NAME")]
    NoStem(String),
    /// It is empty, or would lead out of the state directory or be hidden in it.
    #[error(
        "{0:?} cannot name an instance: it is empty, starts with a dot, or holds a slash or a control character; give --instance NAME"
    )]
    Form(String),
    /// It does not fit into a bus name.
    #[error(
        "{0:?} is too long to name an instance: a D-Bus name has 255 bytes, and each character but letters and digits takes three; give --instance NAME"
    )]
    Long(String),
}

/// The name that a config file gives its instance: its file name without `.xml`.
pub fn instance_name(file: &Path) -> Result<String, InstanceNameError> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name = stem.ok_or_else(|| InstanceNameError::NoStem(file.display().to_string()))?;
    check_instance_name(name)?;
    Ok(name.to_owned())
}

/// Whether `name` can name an instance. It becomes a directory's name and, escaped as systemd's
/// `sd_bus_path_encode(3)` does, an element of a bus name; so nearly every name can.
pub fn check_instance_name(name: &str) -> Result<(), InstanceNameError> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains(char::is_control) {
        return Err(InstanceNameError::Form(name.to_owned()));
    }
    let escaped: usize = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 }).sum();
    let first_digit = if name.starts_with(|c: char| c.is_ascii_digit()) { 2 } else { 0 };
    if escaped + first_digit > ESCAPED_LIMIT {
        return Err(InstanceNameError::Long(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_instance() {
        assert_eq!(instance_name(Path::new("/etc/sersync/www.xml")).as_deref(), Ok("www"));
        assert_eq!(instance_name(Path::new("./web-1.old.xml")).as_deref(), Ok("web-1.old"));
        assert_eq!(instance_name(Path::new("镜像.xml")).as_deref(), Ok("镜像"));
        assert!(matches!(instance_name(Path::new("/")), Err(InstanceNameError::NoStem(_))));
        assert!(matches!(instance_name(Path::new(".xml")), Err(InstanceNameError::Form(_))));
        assert!(matches!(check_instance_name("a/b"), Err(InstanceNameError::Form(_))));
        assert_eq!(check_instance_name(&"a".repeat(236)), Ok(()));
        assert!(matches!(check_instance_name(&"a".repeat(237)), Err(InstanceNameError::Long(_))));
        assert!(matches!(check_instance_name(&"-".repeat(80)), Err(InstanceNameError::Long(_))));
    }
}
