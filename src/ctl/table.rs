//! [`Table`]: rows whose columns line up, with colours that take no width. In a table that is bound to a width, texts that
//! do not fit end in an ellipsis; numbers never do.

use anstyle::Style;
use std::borrow::Cow;
use std::fmt;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Space between two columns.
const GAP: usize = 2;

/// Width below which no column is shortened.
const LEAST: usize = 6;

/// One cell: its text, and how it looks where colours are shown.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// In another style.
    pub fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// At its column's right edge, as numbers are.
    pub fn right(self) -> Self {
        Self { right: true, ..self }
    }

    fn width(&self) -> usize {
        self.text.width()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new(), right: false }
    }
}

/// `text` with blanks behind it up to `width` columns of a terminal, where Chinese takes two for a character.
pub fn padded(text: &str, width: usize) -> String {
    format!("{text}{:1$}", "", width.saturating_sub(text.width()))
}

/// Start and end of `text` in at most `width` columns, with an ellipsis for what is missing between them: names of remotes
/// and paths often differ at their ends.
fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let room = width.saturating_sub(1);
    let head = taken(text.chars(), room.div_ceil(2));
    let tail = taken(text.chars().rev(), room - head.width());
    format!("{head}…{}", tail.chars().rev().collect::<String>()).into()
}

/// The first characters that take at most `room` columns.
fn taken(characters: impl Iterator<Item = char>, mut room: usize) -> String {
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let fits = width <= room;
        room = room.saturating_sub(width);
        fits
    };
    characters.take_while(fits).collect()
}

/// Rows of cells; two spaces part the columns, and no line ends in blanks.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
    width: Option<usize>,
}

impl Table {
    /// A table under a line of headings.
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        let bold = Style::new().bold();
        let headings = headings.into_iter().map(|heading| Cell::from(heading).styled(bold)).collect();
        Self { rows: vec![headings], indent: 0, width: None }
    }

    /// No wider than that, if it can be done.
    pub fn within(self, width: Option<usize>) -> Self {
        Self { width, ..self }
    }

    /// Shifted to the right.
    pub fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            // What stands before the next text; dropped when none follows.
            let mut blank = self.indent;
            for (column, cell) in row.iter().enumerate() {
                blank += if column > 0 { GAP } else { 0 };
                let text = shortened(&cell.text, widths[column]);
                let pad = widths[column].saturating_sub(text.width());
                if text.is_empty() {
                    blank += pad;
                    continue;
                }
                let before = if cell.right || self.heads_numbers(column, cell) { pad } else { 0 };
                let style = cell.style;
                write!(f, "{:1$}{style}{2}{style:#}", "", blank + before, text)?;
                blank = pad - before;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Table {
    /// The width of each column: that of its widest cell, or less where the table would be too wide.
    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        let mut is_number: Vec<bool> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            is_number.resize(widths.len(), false);
            for (column, cell) in row.iter().enumerate() {
                widths[column] = cell.width().max(widths[column]);
                is_number[column] |= cell.right;
            }
        }
        let Some(room) = self.width else { return widths };
        let taken =
            |widths: &[usize]| self.indent + widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        // The widest text gives way first.
        while let excess @ 1.. = taken(&widths).saturating_sub(room) {
            let texts = widths.iter().enumerate().filter(|(column, width)| !is_number[*column] && **width > LEAST);
            let Some((widest, width)) = texts.max_by_key(|(_, width)| **width) else { break };
            let next = widths.iter().enumerate().filter(|(column, _)| *column != widest && !is_number[*column]);
            let next = next.map(|(_, width)| *width).max().unwrap_or(0);
            widths[widest] = width.saturating_sub(excess).max(next.min(width - 1)).max(LEAST);
        }
        widths
    }

    /// A heading stands where the numbers below it stand.
    fn heads_numbers(&self, column: usize, cell: &Cell) -> bool {
        let is_heading =
            self.rows.first().and_then(|row| row.get(column)).is_some_and(|first| std::ptr::eq(first, cell));
        is_heading && self.rows.get(1).and_then(|row| row.get(column)).is_some_and(|below| below.right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstyle::AnsiColor;

    #[test]
    fn a_wide_character_takes_two_columns() {
        let mut table = Table::new(["名称", "延迟", "X"]);
        table.row(["www".into(), Cell::from("3 分钟").right(), "y".into()]);
        assert_eq!(anstream::adapter::strip_str(&table.to_string()).to_string(), "名称    延迟  X\nwww   3 分钟  y\n");
        assert_eq!(padded("错误", 7), "错误   ");
    }

    #[test]
    fn texts_give_way_and_numbers_do_not() {
        let mut table = Table::new(["REMOTE", "STATE", "PENDING"]).indented(2).within(Some(30));
        table.row(["backup@web1.example.org::www".into(), "waiting".into(), Cell::from("1234567890").right()]);
        table.row(["远端".into(), "idle".into(), Cell::from("0").right()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(
            text,
            "  REMOTE   STATE       PENDING\n  bac…www  waiting  1234567890\n  远端     idle              0\n"
        );
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        assert_eq!(shortened("远端一二", 6), "远…二");
        let mut narrow = Table::new(["A"]).within(Some(3));
        narrow.row(["abcdefghi".into()]);
        assert!(narrow.to_string().contains("abc…hi"), "no column is below its least width");
        let full = Table { width: None, ..table };
        assert!(full.to_string().contains("backup@web1.example.org::www"));
    }

    #[test]
    fn columns_line_up_and_colours_take_no_width() {
        let mut table = Table::new(["NAME", "LAG", "NOTE"]).indented(1);
        table.row(["www".into(), Cell::from("12 min").right(), "".into()]);
        table.row([Cell::from("blog-de").styled(AnsiColor::Red.on_default()), Cell::from("1 s").right(), "x".into()]);
        let text = table.to_string();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, " NAME        LAG  NOTE\n www      12 min\n blog-de     1 s  x\n");
        assert!(text.contains("\x1b[31mblog-de\x1b[0m"), "{text:?}");
    }
}
