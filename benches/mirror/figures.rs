//! What is measured ([`Measure`]), what one round gave ([`Outcome`]), and the arithmetic on many of them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A quantity, with its unit. Less is better in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// From before the first write until the copies are equal. Seconds.
    Converged,
    /// From after the last write until the copies are equal. Seconds.
    Lag,
    /// CPU time of the tool and of all processes that it ran; of rsync, where a limit is one. The daemon's is not in it.
    /// Seconds.
    Cpu,
    /// [`Measure::Cpu`] a file. Milliseconds.
    CpuEach,
    /// Resident memory of the tool's processes at its start, at rest. MB.
    IdleMemory,
    /// The same at the end.
    Memory,
    /// The middle of the times of single changes. Milliseconds.
    Median,
    /// What 99 of 100 single changes do not exceed. Milliseconds.
    P99,
    /// rsync processes that the daemon let in.
    Runs,
    /// From the tool's start until it watches all directories. Seconds.
    Watching,
    /// [`Measure::IdleMemory`] beyond that with an empty tree, a directory. Bytes.
    MemoryEach,
    /// CPU time while nothing happens for ten seconds. Milliseconds.
    IdleCpu,
    /// The middle of the times of single changes when nothing else goes on, or nothing else is there. Milliseconds.
    Calm,
    /// How long a full sync of an unchanged tree takes. Seconds.
    FullSync,
    /// What the tool and its processes wrote, to files, pipes and sockets; what passes a pipe and then a socket twice.
    /// KB.
    Written,
    /// From the return of a remote until the copy is equal. Seconds.
    Drained,
}

impl Measure {
    /// As a table's heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Converged => "converged after, s",
            Self::Lag => "lag after the last write, s",
            Self::Cpu => "CPU, s",
            Self::CpuEach => "CPU a file, ms",
            Self::IdleMemory => "memory idle, MB",
            Self::Memory => "memory after, MB",
            Self::Median => "median, ms",
            Self::P99 => "p99, ms",
            Self::Runs => "rsync runs",
            Self::Watching => "watches after, s",
            Self::MemoryEach => "memory a directory, B",
            Self::IdleCpu => "CPU in 10 s idle, ms",
            Self::Calm => "median in calm, ms",
            Self::FullSync => "full sync, s",
            Self::Written => "written, KB",
            Self::Drained => "drained after, s",
        }
    }

    /// The unit alone.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Converged | Self::Lag | Self::Cpu | Self::Watching | Self::FullSync | Self::Drained => "s",
            Self::CpuEach | Self::Median | Self::P99 | Self::IdleCpu | Self::Calm => "ms",
            Self::IdleMemory | Self::Memory => "MB",
            Self::MemoryEach => "B",
            Self::Written => "KB",
            Self::Runs => "",
        }
    }
}

/// What one round gave.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub values: BTreeMap<Measure, f64>,
    /// The times of single changes in milliseconds, where a round has many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
    /// Why there is no figure: what had arrived when the patience ended, or what differed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<String>,
    /// What has to be known to understand the figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl Outcome {
    pub fn with(mut self, measure: Measure, value: f64) -> Self {
        self.values.insert(measure, rounded(value));
        self
    }

    pub fn short(mut self, why: String) -> Self {
        self.shortfall = Some(why);
        self
    }
}

/// Without digits that say nothing.
pub fn rounded(value: f64) -> f64 {
    (value * 1e5).round() / 1e5
}

/// The value in the middle of several; the upper one of two.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which a share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).ceil() as usize])
}

/// `12.3 (11.0 to 14.9)`: median, least and most.
pub fn spread(values: &[f64]) -> Option<String> {
    let (least, most) = (quantile(values, 0.0)?, quantile(values, 1.0)?);
    let middle = figure(median(values)?);
    Some(if values.len() == 1 { middle } else { format!("{middle} ({} to {})", figure(least), figure(most)) })
}

/// Three digits that say something, no more: `0.0312`, `1.40`, `24.3`, `1,250`.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size < 0.0005 => "0".to_owned(),
        _ if size < 0.1 => format!("{value:.3}"),
        _ if size < 10.0 => format!("{value:.2}"),
        _ if size < 100.0 => format!("{value:.1}"),
        _ => thousands(value.round() as usize),
    }
}

/// `10,000`
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
