//! `sersync --watch DIR --print`: tells what happens in a tree, one event a line, for those whose script reads
//! inotifywait(1) today. No remote, no bus, no state.
//!
//! What inotifywait -r leaves out is told here too: what appears in a new directory before it can be watched is printed
//! as the events that would have come, `CREATE` and for a file `CLOSE_WRITE`. Some of it may be printed twice, none of it
//! not at all. When the kernel's queue overflows, or whoever reads the lines is slower than the changes for long, that is
//! told on standard error.

mod events;
mod format;

use crate::config::{EventSwitches, TemporaryNames};
use crate::filter::Filter;
use crate::watch::{self, Event, Report, Spec};
use events::Selection;
use format::Format;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

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

    /// Leave out what this regular expression matches (the whole path below the directory)
    #[arg(long, value_name = "EXPRESSION", requires = "print")]
    exclude: Vec<String>,
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
        Ok((spec, format, selection)) => serve(directory, spec, &format, &selection),
        Err(refusal) => {
            eprintln!("sersync: {refusal}");
            // What clap uses for a wrong command line.
            ExitCode::from(2)
        }
    }
}

fn prepare(directory: &Path, options: &Options) -> Result<(Spec, Format, Selection), Refusal> {
    let end = if options.null { b'\0' } else { b'\n' };
    let format = Format::parse(&options.format, &options.timefmt, end)?;
    let selection = Selection::parse(&options.events)?;
    let filter = Arc::new(Filter::new(&options.exclude)?);
    let unusable = |error| Refusal::Directory(directory.display().to_string(), error);
    if !std::fs::metadata(directory).map_err(unusable)?.is_dir() {
        return Err(unusable(io::Error::from(io::ErrorKind::NotADirectory)));
    }
    let root = std::path::absolute(directory).map_err(unusable)?;
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
    Ok((spec, format, selection))
}

fn serve(directory: &Path, spec: Spec, format: &Format, selection: &Selection) -> ExitCode {
    let (reports, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let _watch = match watch::spawn(spec, None, reports) {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("sersync: {} cannot be watched: {error}", directory.display());
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
    match print(directory, &printed, format, selection) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has what they wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sersync: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(directory: &Path, items: &mpsc::Receiver<Item>, format: &Format, selection: &Selection) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut text = Vec::new();
    while let Ok(first) = items.recv() {
        // All that waits goes out in one write.
        for item in std::iter::once(first).chain(items.try_iter().take(BACKLOG)) {
            match item {
                Item::Events(events) => events
                    .iter()
                    .filter(|event| selection.has(event.mask))
                    .for_each(|event| format.write(&mut text, directory, event)),
                Item::Dropped(count) => {
                    eprintln!("sersync: {count} events were not printed: the lines are not read fast enough");
                }
            }
        }
        out.write_all(&text)?;
        out.flush()?;
        text.clear();
    }
    Ok(())
}

/// What else the watch has to say.
fn tell(report: Report) {
    match report {
        Report::RootReady { .. } => eprintln!("sersync: watching"),
        Report::RootMissing(why) => eprintln!("sersync: {why}; waiting for it"),
        Report::Unwatched { directory, reason } => eprintln!("sersync: {}: {reason}", directory.display()),
        Report::Overflowed => eprintln!(
            "sersync: more events than the kernel's queue holds, some are lost; `sysctl fs.inotify.max_queued_events` sets its length"
        ),
        Report::AllWatched => eprintln!("sersync: all of it is watched again"),
        Report::Mounted(_)
        | Report::Changes(_)
        | Report::Events(_)
        | Report::Marked
        | Report::MarkedHeld
        | Report::Drained(_) => {}
    }
}
