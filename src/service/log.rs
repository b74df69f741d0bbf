//! Where the agent's words go: to journald with fields, when the agent's standard error is the journal's; else to
//! standard error as lines for people. Both can be changed at run time through [`LogControl`].
//!
//! Fields that other parts of the agent put on their tracing events, and their names in the journal:
//!
//! | tracing field | journal field | holds |
//! |---|---|---|
//! | `message_id` | `MESSAGE_ID` | one of [`crate::message_ids`] |
//! | `sersync_remote` | `SERSYNC_REMOTE` | the remote's name |
//! | `sersync_path` | `SERSYNC_PATH` | one path below the root |
//! | `sersync_paths` | `SERSYNC_PATHS` | a number of paths |
//! | `sersync_bytes` | `SERSYNC_BYTES` | bytes sent |
//! | `sersync_duration_usec` | `SERSYNC_DURATION_USEC` | microseconds |
//! | `sersync_rsync_exit` | `SERSYNC_RSYNC_EXIT` | rsync's exit status |
//!
//! docs/journal.md lists which message has which. `SERSYNC_INSTANCE` and `SYSLOG_IDENTIFIER=sersync@INSTANCE` are on
//! every entry: each line of `journalctl` names the instance. Remote and path are in the text as well. Lines for people
//! carry no time: a terminal needs none, and whoever collects them stamps them.

use crate::printable;
use anstyle::{AnsiColor, Style};
use std::fmt;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Identity, Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// Value of `SYSLOG_IDENTIFIER`, which `journalctl` prints on each line.
fn identifier(instance: &str) -> String {
    if instance.is_empty() { "sersync".to_owned() } else { format!("sersync@{instance}") }
}

/// The variable that sets the level at start: a name that [`LogControl::set_level`] takes, or `trace`.
pub const LEVEL_VARIABLE: &str = "SERSYNC_LOG";

/// The names of org.freedesktop.LogControl1(5) for where words go.
const JOURNAL: &str = "journal";
const CONSOLE: &str = "console";

/// A level that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no log level; take emerg, alert, crit, err, warning, notice, info or debug")]
pub struct UnknownLevel(String);

/// A target that is none, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not one of ours.
    #[error("{0:?} is no log target of sersync; take journal or console")]
    Unknown(String),
    /// journald does not answer.
    #[error("the journal cannot be reached ({0}): see systemctl status systemd-journald")]
    NoJournal(#[source] std::io::Error),
}

/// Changes what is logged while the agent runs, and where.
#[derive(Debug, Clone)]
pub struct LogControl {
    level: Arc<dyn Filter>,
    target: Arc<Target>,
}

/// Where words go: below the filter of levels.
type Below = Layered<reload::Layer<LevelFilter, Registry>, Registry>;
type Output = Box<dyn Layer<Below> + Send + Sync>;

/// The output in use, and what it takes to make another one.
struct Target {
    output: reload::Handle<Output, Below>,
    name: Mutex<&'static str>,
    instance: String,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &*self.name()).finish_non_exhaustive()
    }
}

impl Target {
    fn new(instance: &str, name: &'static str, output: Output) -> (Self, reload::Layer<Output, Below>) {
        let (layer, handle) = reload::Layer::new(output);
        (Self { output: handle, name: Mutex::new(name), instance: instance.to_owned() }, layer)
    }

    fn name(&self) -> MutexGuard<'_, &'static str> {
        // A name is whole at any time.
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, wanted: &str) -> Result<(), TargetError> {
        let (name, output): (_, Output) = match wanted {
            JOURNAL => (JOURNAL, Box::new(journal(&self.instance).map_err(TargetError::NoJournal)?)),
            CONSOLE => (CONSOLE, Box::new(console())),
            other => return Err(TargetError::Unknown(other.to_owned())),
        };
        // Fails only when the subscriber is gone, and then nothing is logged anyway.
        let _ = self.output.reload(output);
        *self.name() = name;
        Ok(())
    }
}

/// The part of a reload handle that does not depend on the layers below it.
trait Filter: fmt::Debug + Send + Sync {
    fn get(&self) -> LevelFilter;
    fn set(&self, level: LevelFilter);
}

impl Filter for reload::Handle<LevelFilter, Registry> {
    fn get(&self) -> LevelFilter {
        self.clone_current().unwrap_or(LevelFilter::INFO)
    }

    fn set(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and then nothing is logged anyway.
        let _ = self.modify(|filter| *filter = level);
    }
}

impl LogControl {
    /// The level in syslog's words, as org.freedesktop.LogControl1(5) wants it.
    pub fn level(&self) -> &'static str {
        match self.level.get().into_level() {
            None => "emerg",
            Some(Level::ERROR) => "err",
            Some(Level::WARN) => "warning",
            Some(Level::INFO) => "info",
            Some(Level::DEBUG | Level::TRACE) => "debug",
        }
    }

    /// Sets the level, in syslog's words.
    pub fn set_level(&self, level: &str) -> Result<(), UnknownLevel> {
        self.level.set(parse_level(level)?);
        Ok(())
    }

    /// Value of `SYSLOG_IDENTIFIER`.
    pub fn identifier(&self) -> String {
        identifier(&self.target.instance)
    }

    /// `journal` or `console`.
    pub fn target(&self) -> &'static str {
        *self.target.name()
    }

    /// Sends all that follows to `journal` or `console`.
    pub fn set_target(&self, target: &str) -> Result<(), TargetError> {
        self.target.set(target)
    }
}

/// Begins to log. `debug` is the config's or the command line's wish; [`LEVEL_VARIABLE`] goes before it, and when
/// that names no level it is told and left aside. An agent that is `detached` has no standard error: its words go to
/// the journal, or where there is none nowhere.
///
/// Fails only when the process logs already.
pub fn init(instance: &str, debug: bool, detached: bool) -> Result<LogControl, TryInitError> {
    let wish = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let variable = std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.is_empty());
    let asked = variable.map(|level| parse_level(&level));
    let level = asked.as_ref().and_then(|level| level.as_ref().ok().copied()).unwrap_or(wish);
    let (filter, handle) = reload::Layer::new(level);
    let journal = (detached || is_journal_listening()).then(|| journal(instance).ok()).flatten();
    let (name, output): (_, Output) = match journal {
        Some(journal) => (JOURNAL, Box::new(journal)),
        None => (CONSOLE, Box::new(console())),
    };
    let (target, output) = Target::new(instance, name, output);
    tracing_subscriber::registry().with(filter).with(output).try_init()?;
    if let Some(Err(error)) = asked {
        tracing::warn!("{LEVEL_VARIABLE}: {error}");
    }
    Ok(LogControl { level: Arc::new(handle), target: Arc::new(target) })
}

/// A control over nothing, for a process that does not log.
pub fn silent() -> LogControl {
    let (_, handle) = reload::Layer::<LevelFilter, Registry>::new(LevelFilter::INFO);
    let (target, _) = Target::new("", CONSOLE, Box::new(Identity::new()));
    LogControl { level: Arc::new(handle), target: Arc::new(target) }
}

fn parse_level(name: &str) -> Result<LevelFilter, UnknownLevel> {
    match name.to_ascii_lowercase().as_str() {
        "emerg" | "alert" | "crit" | "err" | "error" => Ok(LevelFilter::ERROR),
        "warning" | "warn" => Ok(LevelFilter::WARN),
        "notice" | "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(UnknownLevel(name.to_owned())),
    }
}

/// Whether standard error leads to the journal.
fn is_journal_listening() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok().and_then(|stream| parse_stream(&stream));
    let stderr = nix::sys::stat::fstat(std::io::stderr().as_fd()).map(|stderr| (stderr.st_dev, stderr.st_ino));
    stream.is_some() && stream == stderr.ok()
}

/// The journal, if journald answers.
fn journal(instance: &str) -> std::io::Result<tracing_journald::Layer> {
    let levels = PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    Ok(tracing_journald::layer()?
        .with_field_prefix(None)
        .with_syslog_identifier(identifier(instance))
        .with_priority_mappings(levels)
        .with_custom_fields([("SERSYNC_INSTANCE", instance)]))
}

/// Lines for people.
fn console<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_subscriber::fmt::layer().event_format(Lines).with_writer(Stderr)
}

/// `$JOURNAL_STREAM` of systemd.exec(5): device and inode, in decimal, joined by a colon.
fn parse_stream(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((u64::from_str(device).ok()?, u64::from_str(inode).ok()?))
}

/// Standard error, with colours on a terminal only.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = anstream::AutoStream<std::io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        anstream::stderr()
    }
}

/// `warning: web2: ConnectionRefused: … (paths=3)`: what a person reads. Messages name remote and path in their text.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut words = Words::default();
        event.record(&mut words);
        let (style, prefix) = match *event.metadata().level() {
            Level::ERROR => (AnsiColor::Red.on_default().bold(), "error: "),
            Level::WARN => (AnsiColor::Yellow.on_default().bold(), "warning: "),
            Level::INFO => (Style::new(), ""),
            Level::DEBUG | Level::TRACE => (Style::new().dimmed(), "debug: "),
        };
        write!(writer, "{style}{prefix}{style:#}{}", words.message)?;
        if !words.fields.is_empty() {
            let dim = Style::new().dimmed();
            write!(writer, " {dim}({}){dim:#}", words.fields)?;
        }
        writeln!(writer)
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            // Config mistakes span lines, on purpose.
            "message" => push_safe(&mut self.message, value, true),
            // A number for machines, and what the message names.
            "message_id" | "sersync_remote" | "sersync_path" => {}
            name => {
                let space = if self.fields.is_empty() { "" } else { " " };
                let name = name.strip_prefix("sersync_").unwrap_or(name);
                self.fields.push_str(space);
                self.fields.push_str(name);
                self.fields.push('=');
                push_safe(&mut self.fields, value, false);
            }
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Texts hold names of files.
fn push_safe(to: &mut String, text: &str, lines: bool) {
    // Writing to a string cannot fail.
    let _ = printable::push_escaped(to, text, if lines { &['\n', '\t'] } else { &[] });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn read(&self) -> String {
            anstream::adapter::strip_str(&String::from_utf8(self.0.lock().unwrap().clone()).unwrap()).to_string()
        }
    }

    /// The layers of [`init`], on paper and for this thread only.
    fn on_paper(act: impl FnOnce(&LogControl)) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        let control = LogControl { level: Arc::new(handle), ..silent() };
        tracing::subscriber::with_default(subscriber, || act(&control));
        paper.read()
    }

    #[test]
    fn lines_are_for_people() {
        let text = on_paper(|_| {
            tracing::info!(message_id = "1234", sersync_remote = "web1", sersync_paths = 3, "batch: web1: done");
            tracing::warn!(sersync_path = "a\x1b[2Jb", "odd \x07 name a\x1b[2Jb\nsecond line");
            tracing::error!("stop");
        });
        assert_eq!(
            text,
            "batch: web1: done (paths=3)\n\
             warning: odd \\u{7} name a\\u{1b}[2Jb\nsecond line\n\
             error: stop\n"
        );
    }

    #[test]
    fn the_level_changes_at_run_time() {
        let text = on_paper(|control| {
            tracing::debug!("one");
            control.set_level("debug").unwrap();
            assert_eq!(control.level(), "debug");
            tracing::debug!("two");
            control.set_level("err").unwrap();
            tracing::warn!("three");
            assert_eq!(control.level(), "err");
            let refused = control.set_level("loud").unwrap_err();
            assert!(refused.to_string().contains("\"loud\" is no log level"), "{refused}");
            assert_eq!(control.level(), "err");
        });
        assert_eq!(text, "debug: two\n");
    }

    #[test]
    fn each_line_of_the_journal_names_the_instance() {
        assert_eq!((identifier("www").as_str(), identifier("").as_str()), ("sersync@www", "sersync"));
    }

    #[test]
    fn reads_journal_stream() {
        assert_eq!(parse_stream("8:1234"), Some((8, 1234)));
        assert_eq!(parse_stream("8"), None);
        assert_eq!(parse_stream("a:b"), None);
    }
}
