//! [`Table`]: rows whose columns line up, with colours that take no width.

use anstyle::Style;
use std::fmt;
use unicode_width::UnicodeWidthStr;

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

/// Rows of cells; two spaces part the columns, and no line ends in blanks.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table under a line of headings.
    pub fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        let bold = Style::new().bold();
        Self { rows: vec![headings.into_iter().map(|heading| Cell::from(heading).styled(bold)).collect()], indent: 0 }
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
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        for row in &self.rows {
            // What stands before the next text; dropped when none follows.
            let mut blank = self.indent;
            for (column, cell) in row.iter().enumerate() {
                blank += if column > 0 { 2 } else { 0 };
                let pad = widths[column] - cell.width();
                if cell.text.is_empty() {
                    blank += pad;
                    continue;
                }
                let before = if cell.right || self.heads_numbers(column, cell) { pad } else { 0 };
                let style = cell.style;
                write!(f, "{:1$}{style}{2}{style:#}", "", blank + before, cell.text)?;
                blank = pad - before;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Table {
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
