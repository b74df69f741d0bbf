//! `sersync --watch DIR --print`: tells what happens in a tree, one event a line, for those whose script reads
//! inotifywait(1) today. No remote, no bus, no state.
//!
//! What inotifywait -r leaves out is told here too: what appears in a new directory before it can be watched is printed
//! as the events that would have come, `CREATE` and for a file `CLOSE_WRITE`. Some of it may be printed twice, none of it
//! not at all. When the kernel's queue overflows, or whoever reads the lines is slower than the changes for long, that is
//! told on standard error.

mod arguments;
mod events;
mod format;

pub use arguments::translated;

use crate::config::{EventSwitches, TemporaryNames};
use crate::filter::Filter;
use crate::path::RelPath;
use crate::watch::{self, Event, Report, Spec, TooLong};
use events::Selection;
use format::Format;
use regex::bytes::{Regex, RegexBuilder};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// So many reports, of a few thousand events at most, wait for a reader that is slow.
const BACKLOG: usize = 256;

/// The options of `--print`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --print")]
pub struct Options {
    /// Print what happens in the watched directory, as inotifywait does; mirror nothing
    #[arg(long, requires = "watch", conflicts_with_all = ["to", "config", "plugin", "full_sync", "detach"])]
    pub print: bool,

    /// What to print of an event: %w directory, %f name, %e events (%Xe: with X between them), %T time, %c cookie
    #[arg(long, value_name = "FORMAT", requires = "print", default_value = "%w %e %f", hide_default_value = true)]
    format: String,

    /// How %T shows the time, as strftime(3)
    #[arg(
        long,
        value_name = "FORMAT",
        requires = "print",
        default_value = "%Y-%m-%dT%H:%M:%S%z",
        hide_default_value = true
    )]
    timefmt: String,

    /// End each event with a NUL byte in place of a newline: names may hold newlines
    #[arg(short = '0', long, requires = "print")]
    null: bool,

    /// Only these events, such as create,delete,close_write,move
    #[arg(short = 'e', long, value_name = "EVENT", requires = "print", value_delimiter = ',')]
    events: Vec<String>,

    /// Leave out paths in which this regular expression is found, and all below them
    #[arg(long, value_name = "EXPRESSION", requires = "print")]
    exclude: Vec<String>,

    /// The same in any case
    #[arg(long, value_name = "EXPRESSION", requires = "print")]
    excludei: Vec<String>,

    /// Only paths in which this regular expression is found
    #[arg(long, value_name = "EXPRESSION", requires = "print")]
    include: Vec<String>,

    /// The same in any case
    #[arg(long, value_name = "EXPRESSION", requires = "print")]
    includei: Vec<String>,

    /// End after the first event
    #[arg(long, requires = "print")]
    single: bool,

    /// End with exit status 2 when nothing is printed for so long (-t of inotifywait); 0: never
    #[arg(long, value_name = "SECONDS", requires = "print")]
    timeout: Option<u32>,

    /// Print comma-separated values: directory, events, name (-c of inotifywait)
    #[arg(long, requires = "print", conflicts_with_all = ["format", "null"])]
    csv: bool,

    /// Append to FILE (-o of inotifywait)
    #[arg(long, value_name = "FILE", requires = "print")]
    outfile: Option<PathBuf>,

    /// Run in the background (-d of inotifywait)
    #[arg(long, requires = "outfile")]
    background: bool,
}

/// The exit status after `--timeout`, as inotifywait has it.
const TIMED_OUT: u8 = 2;

/// Which paths are printed.
#[derive(Debug, Default)]
struct Paths {
    exclude: Vec<Regex>,
    include: Vec<Regex>,
    /// The one file that is watched, in its directory.
    only: Option<RelPath>,
}

impl Paths {
    fn parse(options: &Options) -> Result<Self, Refusal> {
        let all = |exact: &[String], any_case: &[String]| {
            let exact = exact.iter().map(|expression| expression_of(expression, false));
            exact.chain(any_case.iter().map(|expression| expression_of(expression, true))).collect::<Result<_, _>>()
        };
        Ok(Self {
            exclude: all(&options.exclude, &options.excludei)?,
            include: all(&options.include, &options.includei)?,
            only: None,
        })
    }

    /// As inotifywait does: an excluded directory is excluded with all that is in it.
    fn has(&self, directory: &Path, path: &RelPath) -> bool {
        if let Some(only) = &self.only {
            return path == only;
        }
        let whole = |path: &RelPath| path.under(directory).into_os_string().into_vec();
        let is_in = |expressions: &[Regex], path: &RelPath| {
            let path = whole(path);
            expressions.iter().any(|expression| expression.is_match(&path))
        };
        let mut above = Some(path.clone());
        while let Some(here) = above.filter(|here| !here.is_root() && !self.exclude.is_empty()) {
            if is_in(&self.exclude, &here) {
                return false;
            }
            above = here.parent();
        }
        self.include.is_empty() || is_in(&self.include, path)
    }
}

fn expression_of(expression: &str, any_case: bool) -> Result<Regex, Refusal> {
    RegexBuilder::new(expression).case_insensitive(any_case).unicode(false).build().map_err(
        |error| match Filter::check(expression) {
            Err(error) => Refusal::Exclude(error),
            Ok(()) => Refusal::Expression(expression.to_owned(), error.to_string()),
        },
    )
}

/// Why nothing is printed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Format(#[from] format::FormatError),
    #[error(transparent)]
    Event(#[from] events::EventError),
    #[error("--exclude: {0}; {help}", help = .0.help())]
    Exclude(#[from] crate::filter::ExpressionError),
    #[error("--include or --exclude {0:?}: {1}")]
    Expression(String, String),
    #[error("--outfile {0}: {1}")]
    Outfile(String, io::Error),
    #[error("cannot run in the background: {0}")]
    Background(nix::errno::Errno),
    #[error("--watch {0}: {1}")]
    Directory(String, io::Error),
}

/// What the printer is handed.
enum Item {
    Events(Vec<Event>),
    /// So many events were dropped here.
    Dropped(usize),
}

/// Prints until nobody reads any more, or the process is ended.
pub fn run(directory: &Path, options: &Options) -> ExitCode {
    match prepare(directory, options) {
        Ok((spec, printer)) => serve(spec, printer),
        Err(refusal) => {
            eprintln!("sersync: {refusal}");
            // What clap uses for a wrong command line.
            ExitCode::from(2)
        }
    }
}

/// What is printed, how, and for how long.
struct Printer {
    /// As it was named.
    directory: PathBuf,
    format: Format,
    selection: Selection,
    paths: Paths,
    is_single: bool,
    timeout: Option<Duration>,
    out: Box<dyn Write>,
}

fn prepare(directory: &Path, options: &Options) -> Result<(Spec, Printer), Refusal> {
    let end = if options.null { b'\0' } else { b'\n' };
    let mut format = match options.csv {
        true => Format::csv(),
        false => Format::parse(&options.format, &options.timefmt, end)?,
    };
    let selection = Selection::parse(&options.events)?;
    let mut paths = Paths::parse(options)?;
    let unusable = |error| Refusal::Directory(directory.display().to_string(), error);
    let mut root = std::path::absolute(directory).map_err(unusable)?;
    let mut filter = Filter::none();
    if !std::fs::metadata(directory).map_err(unusable)?.is_dir() {
        let name = root.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        paths.only = RelPath::new(&name).ok();
        format = format.of_one_file();
        root.pop();
        // Its directory is watched, and none below.
        filter = Filter::new([".*/.*"])?;
    }
    let filter = Arc::new(filter);
    let out: Box<dyn Write> = match &options.outfile {
        None => Box::new(io::stdout()),
        Some(file) => {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
            Box::new(opened.map_err(|error| Refusal::Outfile(file.display().to_string(), error))?)
        }
    };
    if options.background {
        nix::unistd::daemon(true, false).map_err(Refusal::Background)?;
    }
    let events = EventSwitches { modify: selection.has_modify(), ..EventSwitches::EXACT };
    let spec = Spec {
        root,
        events,
        filter,
        temporary_names: TemporaryNames::Hold,
        changed_since: None,
        about: Vec::new(),
        raw: true,
    };
    let timeout = options.timeout.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
    let (directory, is_single) = (directory.to_owned(), options.single);
    Ok((spec, Printer { directory, format, selection, paths, is_single, timeout, out }))
}

fn serve(spec: Spec, mut printer: Printer) -> ExitCode {
    let (reports, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let _watch = match watch::spawn(spec, None, reports) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("sersync: {} cannot be watched: {error}", printer.directory.display());
            return ExitCode::FAILURE;
        }
    };
    let (items, printed) = mpsc::sync_channel(BACKLOG);
    thread::spawn(move || {
        let mut dropped = 0;
        while let Some(report) = heard.blocking_recv() {
            let events = match report {
                Report::Events(events) => events,
                other => {
                    tell(other);
                    continue;
                }
            };
            if dropped > 0 && items.try_send(Item::Dropped(dropped)).is_ok() {
                dropped = 0;
            }
            match items.try_send(Item::Events(events)) {
                Ok(()) => {}
                Err(mpsc::TrySendError::Full(Item::Events(events))) => dropped += events.len(),
                Err(_) => return,
            }
        }
    });
    match printer.print(&printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => ExitCode::from(TIMED_OUT),
        // Whoever read has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sersync: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Printer {
    /// Prints until nobody reads any more, the first event was printed, or the time is over (`TimedOut`).
    fn print(&mut self, items: &mpsc::Receiver<Item>) -> io::Result<()> {
        let mut text = Vec::new();
        let mut last = Instant::now();
        loop {
            let received = match self.timeout {
                None => items.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(timeout) => items.recv_timeout((last + timeout).saturating_duration_since(Instant::now())),
            };
            let first = match received {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            // All that waits goes out in one write.
            for item in std::iter::once(first).chain(items.try_iter().take(BACKLOG)) {
                match item {
                    Item::Events(events) => self.format_all(&mut text, &events),
                    Item::Dropped(count) => {
                        eprintln!("sersync: {count} events were not printed: the lines are not read fast enough");
                    }
                }
            }
            if text.is_empty() {
                continue;
            }
            self.out.write_all(&text)?;
            self.out.flush()?;
            if self.is_single {
                return Ok(());
            }
            text.clear();
            last = Instant::now();
        }
    }

    fn format_all(&self, text: &mut Vec<u8>, events: &[Event]) {
        for event in events {
            let is_printed = self.selection.has(event.mask) && self.paths.has(&self.directory, &event.path);
            let is_over = self.is_single && !text.is_empty();
            if is_printed && !is_over {
                self.format.write(text, &self.directory, event);
            }
        }
    }
}

/// What else the watch has to say.
fn tell(report: Report) {
    match report {
        Report::RootReady { .. } => eprintln!("sersync: watching"),
        Report::RootMissing(why) => eprintln!("sersync: {why}; waiting for it"),
        Report::TooLong(TooLong { directories, holder: Some(holder), .. }) if directories > 0 => {
            eprintln!("sersync: {}: a directory in it is not watched: its path is too long", holder.display());
        }
        Report::Unwatched { directory, reason } => eprintln!("sersync: {}: {reason}", directory.display()),
        Report::Overflowed => eprintln!(
            "sersync: more events than the kernel's queue holds, some are lost; `sysctl fs.inotify.max_queued_events` sets its length"
        ),
        Report::AllWatched => eprintln!("sersync: all of it is watched again"),
        Report::Mounted(_)
        | Report::Changes(_)
        | Report::Events(_)
        | Report::TooLong(_)
        | Report::Marked
        | Report::MarkedHeld
        | Report::Drained(_) => {}
    }
}
