//! [`Allowance`]: how much one config may ask of the regular expression compiler.
//!
//! An expression of ten characters can compile to ten mebibytes; nothing else in a config costs so much more than its
//! length. One large expression is fine, and so are thousands of small ones: it is their sum that is bounded, at some
//! seconds and some hundred mebibytes, so that no file of 4 MiB takes hours or all memory to read.

use crate::filter;

/// What all expressions of a file may cost together.
const ALL: usize = 10_000;
/// What one costs that is small once compiled, as nearly all are.
const SMALL: usize = 1;
/// What any other one costs. The compiler has a limit of its own for it.
const LARGE: usize = 400;

/// What the expressions of a config may still cost.
#[derive(Debug)]
pub(super) struct Allowance {
    /// `None`: an expression was more than was left.
    left: Option<usize>,
}

/// Why an expression is not compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// By this one.
    Now,
    /// By one before it, of which was told.
    Before,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { left: Some(ALL) }
    }

    /// Takes what `expression` costs, a regular expression or an rsync pattern.
    pub(super) fn take(&mut self, expression: &str) -> Result<(), Spent> {
        let Some(left) = self.left else { return Err(Spent::Before) };
        let cost = if filter::is_small(expression) { SMALL + expression.len() / 1024 } else { LARGE };
        self.left = left.checked_sub(cost);
        self.left.map(drop).ok_or(Spent::Now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_ones_or_some_large_ones_can_be_paid_for_and_the_end_is_told_once() {
        let mut allowance = Allowance::new();
        for number in 0..ALL {
            assert_eq!(allowance.take(r"[a-z]+\.tmp"), Ok(()), "{number}");
        }
        let large = r"\w{90}[a-z]+x";
        assert_eq!(allowance.take(large), Err(Spent::Now), "nothing is left");
        assert_eq!(allowance.take("a"), Err(Spent::Before));
        let mut allowance = Allowance::new();
        assert_eq!((0..ALL).take_while(|_| allowance.take(large).is_ok()).count(), ALL / LARGE);
        assert_eq!(allowance.take(large), Err(Spent::Before));
    }
}
