//! The plots: for each place, one with a bar for each workload and tool, for time and for CPU; and how the times of
//! single changes are spread.

use super::svg::{Anchor, Canvas, Ink, LogAxis};
use super::targets::is_ours;
use crate::figures::{Measure, figure, median};
use crate::results::{Results, Row, Table};
use crate::stand::Place;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 120.0;
/// Room for the value behind the longest bar.
const RIGHT: f64 = 210.0;
const BAR: f64 = 15.0;
const STEP: f64 = 19.0;
const BETWEEN: f64 = 16.0;

/// A file name below docs/benchmarks, what it shows, and the document.
pub struct Plot {
    pub file: String,
    pub shows: String,
    pub document: String,
}

/// Workloads that stand in one plot, with what it is called.
const GROUPS: [(&str, &str, &[&str]); 4] = [
    ("written", "Files are written", &["burst", "tree", "big", "checkout", "unpack"]),
    ("changed", "Files are removed, renamed, overwritten", &["rmtree", "tree-rm", "mv", "mv-ssh", "churn", "uploads"]),
    ("remotes", "Several remotes, and a far one", &["burst", "remotes-3", "remotes-10", "link"]),
    ("trees", "Large trees", &["full", "watch", "watch-million", "pending"]),
];

/// All that there are figures for.
pub fn all(results: &Results) -> Vec<Plot> {
    let mut plots = Vec::new();
    for place in [Place::Tmpfs, Place::Disk] {
        let sampled =
            |table: &&Table| table.rows.iter().flat_map(|row| &row.outcomes).any(|one| !one.samples.is_empty());
        let here = results.tables.iter().filter(|table| table.place == place);
        plots.extend(here.filter(sampled).filter_map(|table| distribution(results, table)));
        for (name, heading, workloads) in GROUPS {
            let tables = workloads.iter().filter_map(|name| results.table(name, place));
            let tables = tables.filter(|table| table.headline().unit() == "s").collect::<Vec<_>>();
            // What is in the group beside what stands in another, too.
            if tables.len() < 2 {
                continue;
            }
            let title = format!("{heading}: how long it takes, on {}", place.name());
            plots.extend(bars(results, &title, &format!("{name}-time-{}.svg", place.name()), &tables, Table::headline));
            let title = format!("{heading}: CPU time, on {}", place.name());
            let counted = tables.into_iter().filter(|table| table.measures.contains(&Measure::Cpu)).collect::<Vec<_>>();
            plots
                .extend(bars(results, &title, &format!("{name}-cpu-{}.svg", place.name()), &counted, |_| Measure::Cpu));
        }
    }
    plots
}

/// The colour of a tool: ours have the first two, the others one each, in the order of the tools.
fn ink(results: &Results, name: &str) -> Ink {
    let alike = results.machine.tools.iter().filter(|(tool, ..)| is_ours(tool) == is_ours(name));
    let number = alike.take_while(|(tool, ..)| tool != name).count();
    Ink::Tool(if is_ours(name) { number.min(1) } else { 2 + number })
}

/// The tools of some tables, in the order of the machine's list.
fn tools<'a>(results: &'a Results, tables: &'a [&Table]) -> impl Iterator<Item = &'a str> {
    let names = results.machine.tools.iter().map(|(name, ..)| name.as_str());
    names.filter(|name| tables.iter().any(|table| table.row(name).is_some()))
}

fn bars(
    results: &Results,
    title: &str,
    file: &str,
    tables: &[&Table],
    measure: impl Fn(&Table) -> Measure,
) -> Option<Plot> {
    let middle = |table: &Table, row: &Row| median(&row.values(measure(table)));
    let rows = |table: &'_ Table| table.rows.iter().filter(|row| !row.limit).count();
    let values = tables.iter().flat_map(|table| table.rows.iter().filter_map(|row| middle(table, row)));
    let axis = LogAxis::over(values, LEFT, WIDTH - LEFT - RIGHT)?;
    let legend = named(results, tables);
    let top = legend.bottom() + 24.0;
    let bottom = top + tables.iter().map(|table| rows(table) as f64 * STEP + BETWEEN).sum::<f64>();
    let mut canvas = Canvas::new(WIDTH, bottom + 44.0);
    canvas.text((20.0, 32.0), Anchor::Start, 17.0, Ink::Text, title);
    legend.draw(&mut canvas);
    for tick in axis.ticks() {
        let x = axis.position(tick);
        canvas.line(&[(x, top - 8.0), (x, bottom - BETWEEN / 2.0)], Ink::Grid, 1.0);
        canvas.text((x, bottom + 8.0), Anchor::Middle, 12.0, Ink::Faint, tick_label(tick));
    }
    canvas.text(
        (axis.start(), bottom + 30.0),
        Anchor::Start,
        12.0,
        Ink::Faint,
        "seconds, less is better; each line is ten times the one before",
    );
    let mut y = top;
    for table in tables {
        let height = rows(table) as f64 * STEP;
        canvas.text((LEFT - 12.0, y + height / 2.0 + 3.0), Anchor::End, 14.0, Ink::Text, &table.workload);
        let limit = table.limit().and_then(|row| middle(table, row));
        let begin = y;
        for row in table.rows.iter().filter(|row| !row.limit) {
            let ink = ink(results, &row.name);
            let short = row.shortfalls().next();
            let value = middle(table, row).filter(|value| *value > 0.0);
            let end = match value {
                Some(value) => axis.position(value).max(axis.start() + 2.0),
                None => WIDTH - RIGHT,
            };
            let size = (end - axis.start(), BAR);
            let label = match (value, short) {
                (Some(value), None) => labelled(value, limit),
                // CPU time that did not lead to a copy.
                (Some(value), Some(_)) => format!("{} s, copy not equal", figure(value)),
                (None, Some(why)) => abridged(why),
                (None, None) => "0 s".to_owned(),
            };
            match short {
                None => canvas.rectangle((axis.start(), y), size, ink),
                Some(_) => canvas.outline((axis.start(), y), size, ink),
            }
            // Not across the limit's mark.
            let mark = limit.filter(|limit| *limit > 0.0).map(|limit| axis.position(limit));
            let behind = mark.filter(|mark| (end - 2.0..end + 150.0).contains(mark)).unwrap_or(end);
            canvas.text((behind + 6.0, y + BAR - 3.0), Anchor::Start, 12.0, Ink::Text, label);
            y += STEP;
        }
        if let Some(limit) = limit.filter(|limit| *limit > 0.0) {
            let x = axis.position(limit);
            canvas.line(&[(x, begin - 4.0), (x, y)], Ink::Text, 2.0);
        }
        y += BETWEEN;
    }
    let shows = format!(
        "{title}: bars of {}",
        tables.iter().map(|table| table.workload.as_str()).collect::<Vec<_>>().join(", ")
    );
    Some(Plot { file: file.to_owned(), document: canvas.finish(title), shows })
}

/// What the colours are, in as many lines as that takes.
struct Legend {
    entries: Vec<(Ink, String)>,
}

impl Legend {
    const LINE: f64 = 20.0;
    const TOP: f64 = 48.0;

    /// Where each entry stands.
    fn places(&self) -> Vec<(f64, f64)> {
        let (mut x, mut y) = (20.0, Self::TOP);
        let place = |(_, text): &(Ink, String)| {
            let width = 40.0 + text.chars().count() as f64 * 7.3;
            if x + width > WIDTH {
                (x, y) = (20.0, y + Self::LINE);
            }
            let at = (x, y);
            x += width;
            at
        };
        self.entries.iter().map(place).collect()
    }

    /// Where there is room below it.
    fn bottom(&self) -> f64 {
        self.places().last().map_or(Self::TOP, |(_, y)| y + Self::LINE)
    }

    fn draw(&self, canvas: &mut Canvas) {
        for ((ink, text), (x, y)) in self.entries.iter().zip(self.places()) {
            match ink {
                // A limit is a line in the plot, too.
                Ink::Text => canvas.line(&[(x + 5.0, y - 2.0), (x + 5.0, y + 14.0)], *ink, 2.0),
                _ => canvas.rectangle((x, y), (12.0, 12.0), *ink),
            }
            canvas.text((x + 18.0, y + 10.0), Anchor::Start, 13.0, Ink::Text, text);
        }
    }
}

/// The tools, and what the mark is.
fn named(results: &Results, tables: &[&Table]) -> Legend {
    let mut entries = tools(results, tables).map(|name| (ink(results, name), name.to_owned())).collect::<Vec<_>>();
    let mut limits = tables.iter().filter_map(|table| table.limit()).map(|row| row.name.as_str()).collect::<Vec<_>>();
    limits.dedup();
    entries.extend(match limits.as_slice() {
        [] => None,
        [same] => Some((Ink::Text, format!("limit: {same}"))),
        _ => Some((Ink::Text, "limit".to_owned())),
    });
    Legend { entries }
}

/// `0.45 s = 1.3 × limit`
fn labelled(value: f64, limit: Option<f64>) -> String {
    match limit.filter(|limit| *limit > 0.0) {
        Some(limit) => format!("{} s = {} × limit", figure(value), figure(value / limit)),
        None => format!("{} s", figure(value)),
    }
}

/// The first part of a sentence, as far as there is room.
fn abridged(text: &str) -> String {
    text.split(';').next().unwrap_or(text).chars().take(34).collect()
}

/// How many of the single changes had arrived after how long.
fn distribution(results: &Results, table: &Table) -> Option<Plot> {
    let samples = |row: &Row| row.outcomes.iter().flat_map(|outcome| outcome.samples.clone()).collect::<Vec<_>>();
    let line_ink = |row: &Row| if row.limit { Ink::Text } else { ink(results, &row.name) };
    let entry = |row: &Row| Some((line_ink(row), format!("{} {} ms", row.name, figure(median(&samples(row))?))));
    let legend = Legend { entries: table.rows.iter().filter_map(entry).collect() };
    let top = legend.bottom() + 16.0;
    let (bottom, left, right) = (top + 256.0, 70.0, WIDTH - 30.0);
    let all = table.rows.iter().flat_map(samples).collect::<Vec<_>>();
    let axis = LogAxis::over(all.into_iter(), left, right - left)?;
    let height = |share: f64| bottom - share * (bottom - top);
    let mut canvas = Canvas::new(WIDTH, bottom + 60.0);
    let title = format!("How long one small file takes to arrive, on {}", table.place.name());
    canvas.text((20.0, 32.0), Anchor::Start, 17.0, Ink::Text, &title);
    for tick in axis.ticks() {
        let x = axis.position(tick);
        canvas.line(&[(x, top), (x, bottom)], Ink::Grid, 1.0);
        canvas.text((x, bottom + 20.0), Anchor::Middle, 12.0, Ink::Faint, tick_label(tick));
    }
    for share in [0.0, 0.5, 0.9, 1.0] {
        canvas.line(&[(left, height(share)), (right, height(share))], Ink::Grid, 1.0);
        let label = format!("{:.0} %", share * 100.0);
        canvas.text((left - 8.0, height(share) + 4.0), Anchor::End, 12.0, Ink::Faint, label);
    }
    canvas.text((left, bottom + 42.0), Anchor::Start, 12.0, Ink::Faint, "milliseconds after the write began, each line ten times the one before; height: share of the files that are there");
    for row in &table.rows {
        let mut times = samples(row);
        if times.is_empty() {
            continue;
        }
        times.sort_by(f64::total_cmp);
        // A lost file never gets there.
        let lost = row.shortfalls().count();
        let mut points = vec![(axis.position(times[0]), height(0.0))];
        for (index, time) in times.iter().enumerate() {
            let x = axis.position(*time);
            points.push((x, height(index as f64 / (times.len() + lost) as f64)));
            points.push((x, height((index + 1) as f64 / (times.len() + lost) as f64)));
        }
        canvas.line(&points, line_ink(row), if row.limit { 1.5 } else { 2.5 });
    }
    legend.draw(&mut canvas);
    Some(Plot {
        file: format!("{}-{}.svg", table.workload, table.place.name()),
        shows: format!("{title}: the share of files against time, a line for each tool, its median behind its name"),
        document: canvas.finish(&title),
    })
}

/// `0.01`, `1`, `1,000`
fn tick_label(value: f64) -> String {
    if value < 1.0 { format!("{value}") } else { crate::figures::thousands(value.round() as usize) }
}
