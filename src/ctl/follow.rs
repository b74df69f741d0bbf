//! `resync`: starts a full sync and follows its job to the end. Whoever stops following does not stop the job.

use super::alive::while_alive;
use super::error::CtlError;
use super::proxy::JobProxy;
use super::signals::Signals;
use super::view::{Job, View};
use super::{Session, done, words};
use crate::bus::names;
use crate::human::count;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use tokio::signal::unix::{SignalKind, signal};
use tr::tr;
use zbus::OwnedObjectPath;
use zbus::names::BusName;

/// Starts a full sync; with `wait`, shows its progress and returns when it ended well.
///
/// With `delete`, it makes all deletions that it finds.
pub async fn resync(
    session: &Session,
    name: &str,
    remotes: &[String],
    delete: bool,
    wait: bool,
) -> Result<(), CtlError> {
    let agent = session.agent(name).await?;
    let start = async || match delete {
        true => agent.full_sync_delete(remotes).await,
        false => agent.full_sync(remotes).await,
    };
    if !wait {
        let path = done(session, name, start().await).await?;
        let id = number(&path);
        if session.json {
            writeln!(anstream::stdout(), "{}", serde_json::json!({ "job": id }))?;
        }
        session.say(&tr!("full sync {id} is under way", id))?;
        return session.say_next(&session.scope.ctl("status", name));
    }
    // One handler for the whole command: a Ctrl-C while a signal is looked at counts too.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CtlError::CtrlC)?;
    // Listening first, so that even the shortest job is heard to end.
    let mut signals = Signals::of(session, name).await?;
    let path = done(session, name, start().await).await?;
    let mut progress = Progress::new(session, name, number(&path));
    let bus_name = names::bus_name(name);
    let following = async {
        let mut job = Job::read(&session.bus, &bus_name, path.as_str()).await?;
        progress.show(&job)?;
        while !job.is_over() {
            tokio::select! {
                signal = signals.next() => {
                    let signal = signal?;
                    if signal.header().path().is_some_and(|from| from.as_str() == path.as_str()) {
                        job = Job::read(&session.bus, &bus_name, path.as_str()).await?;
                        progress.show(&job)?;
                    }
                }
                _ = interrupt.recv() => return progress.leave(),
            }
        }
        progress.end(&job)
    };
    let agent = BusName::try_from(bus_name.as_str())?;
    match while_alive(&session.bus, &agent, following).await {
        Ok(ended) => ended,
        Err(error) => Err(session.explain(name, error.into()).await),
    }
}

/// Cancels all full syncs of an instance that run or wait.
pub async fn cancel(session: &Session, name: &str) -> Result<(), CtlError> {
    let bus_name = names::bus_name(name);
    let view = View::read(&session.bus, &bus_name, name).await.map_err(Into::into);
    let view = done(session, name, view).await?;
    for job in &view.jobs {
        let path = names::job_path(name, crate::agent::snapshot::JobId(job.id));
        let proxy = JobProxy::new(&session.bus, name, path, &session.asking).await?;
        done(session, name, proxy.cancel().await).await?;
    }
    if session.json {
        let ids: Vec<_> = view.jobs.iter().map(|job| job.id).collect();
        writeln!(anstream::stdout(), "{}", serde_json::json!({ "canceled": ids }))?;
    }
    if view.jobs.is_empty() {
        return session.say(&tr!("no full sync runs or waits"));
    }
    let jobs = count(view.jobs.len() as u64);
    session.say(&tr!("{jobs} full sync canceled" | "{jobs} full syncs canceled" % view.jobs.len(), jobs = jobs))?;
    session.say_next(&session.scope.ctl("resync", name))
}

/// The number at the end of a job's object path.
fn number(path: &OwnedObjectPath) -> u64 {
    path.as_str().rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// How progress is shown: a bar on a terminal, else a line for each tenth, or JSON lines.
struct Progress<'s> {
    session: &'s Session,
    name: &'s str,
    id: u64,
    bar: Option<ProgressBar>,
    told: Option<u64>,
}

impl<'s> Progress<'s> {
    fn new(session: &'s Session, name: &'s str, id: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && !session.json;
        let bar = on_terminal.then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            ProgressBar::new(1000).with_style(style).with_prefix(name.to_owned())
        });
        Self { session, name, id, bar, told: None }
    }

    fn show(&mut self, job: &Job) -> Result<(), CtlError> {
        if self.session.json {
            writeln!(anstream::stdout(), "{}", job.to_json())?;
        } else if let Some(bar) = &self.bar {
            bar.set_position((job.progress * 1000.0) as u64);
            bar.set_message(format!("{}, {}", words::progress(job), words::state(&job.state)));
        } else {
            let tenth = (job.progress * 10.0) as u64;
            if self.told != Some(tenth) && !job.is_over() {
                self.told = Some(tenth);
                self.session.say(&tr!(
                    "full sync {id}: {state}, {progress}",
                    id = job.id,
                    state = words::state(&job.state),
                    progress = words::progress(job)
                ))?;
            }
        }
        Ok(())
    }

    fn leave(&self) -> Result<(), CtlError> {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
        let cancel = format!("{} --cancel", self.session.scope.ctl("resync", self.name));
        let text = tr!("full sync {id} goes on; to end it: {command}", id = self.id, command = cancel);
        writeln!(anstream::stderr(), "{text}")?;
        Ok(())
    }

    fn end(&self, job: &Job) -> Result<(), CtlError> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if job.state == "done" {
            let result = if job.result.is_empty() { words::state("done") } else { job.result.clone() };
            return self.session.say(&tr!("full sync {id}: {result}", id = job.id, result));
        }
        Err(CtlError::JobFailed {
            scope: self.session.scope,
            instance: self.name.to_owned(),
            state: job.state.clone(),
            result: job.result.clone(),
        })
    }
}
