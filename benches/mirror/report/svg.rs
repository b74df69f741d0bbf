//! [`Canvas`]: an SVG document, drawn from the few shapes that a plot needs. It has a ground of its own and two sets of
//! colours, so that it can be read on a light page and on a dark one; it asks for no font that a system may lack.

use std::fmt::{Display, Write as _};

/// What a shape is drawn in. A tool's colour is the same in all plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Text,
    Faint,
    Grid,
    /// That of the tool with this number. Ours are 0 and 1.
    Tool(usize),
}

/// Light and dark.
const TOOLS: [(&str, &str); 6] = [
    ("#0969da", "#58a6ff"),
    ("#0f766e", "#2dd4bf"),
    ("#d9730d", "#ffa657"),
    ("#8250df", "#bc8cff"),
    ("#bf3989", "#f778ba"),
    ("#a40e26", "#ff7b72"),
];

impl Ink {
    fn class(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Faint => "faint".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Tool(number) => format!("t{}", number % TOOLS.len()),
        }
    }
}

/// Where a text stands, seen from its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

pub struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    /// Pixels.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), ink: Ink) {
        let class = ink.class();
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" class="fill-{class}"/>"#
        );
    }

    /// Only its outline, dashed: for what has no value.
    pub fn outline(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), ink: Ink) {
        let class = ink.class();
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" class="line-{class} dashed"/>"#
        );
    }

    pub fn line(&mut self, points: &[(f64, f64)], ink: Ink, width: f64) {
        let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        let class = ink.class();
        let _ = writeln!(self.body, r#"<polyline points="{points}" class="line-{class}" stroke-width="{width}"/>"#);
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, size: f64, ink: Ink, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if size > 14.0 { "600" } else { "400" };
        let class = ink.class();
        let text = text.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" class="fill-{class}">{text}</text>"#
        );
    }

    /// The document. `title` is for those who cannot see it.
    pub fn finish(self, title: &str) -> String {
        let style = |dark: bool| {
            let pick = |(light, night): (&'static str, &'static str)| if dark { night } else { light };
            let fixed =
                [("text", ("#1f2328", "#e6edf3")), ("faint", ("#59636e", "#9198a1")), ("grid", ("#d1d9e0", "#30363d"))];
            let mut colours = fixed.map(|(class, pair)| (class.to_owned(), pick(pair))).to_vec();
            colours.extend(TOOLS.iter().enumerate().map(|(number, pair)| (format!("t{number}"), pick(*pair))));
            let mut text = format!(".ground{{fill:{}}}", pick(("#ffffff", "#0d1117")));
            for (class, colour) in colours {
                let _ = write!(text, ".fill-{class}{{fill:{colour}}}.line-{class}{{stroke:{colour};fill:none}}");
            }
            text
        };
        let (width, height) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" role=\"img\">\n\
             <title>{title}</title>\n<style>{}.dashed{{stroke-dasharray:4 3}}\
             @media (prefers-color-scheme: dark){{{}}}</style>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" class=\"ground\"/>\n{}</svg>\n",
            style(false),
            style(true),
            self.body,
        )
    }
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub struct LogAxis {
    /// Powers of ten.
    low: f64,
    high: f64,
    from: f64,
    length: f64,
}

impl LogAxis {
    /// One that shows all values, from `from` on, `length` pixels long. `None` without a value above 0.
    pub fn over(values: impl Iterator<Item = f64>, from: f64, length: f64) -> Option<Self> {
        let bounds = values.filter(|value| *value > 0.0).fold(None, |bounds, value| {
            let (low, high): (f64, f64) = bounds.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = bounds?;
        // The least value gets a length, too.
        let low = (low / 2.0).log10().floor();
        Some(Self { low, high: high.log10().ceil().max(low + 1.0), from, length })
    }

    pub fn position(&self, value: f64) -> f64 {
        let share = (value.log10() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * self.length
    }

    /// The powers of ten on it.
    pub fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }

    pub fn start(&self) -> f64 {
        self.from
    }
}
