//! [`Field`]: the values of one part of a calendar expression, such as its hours: `*`, `5`, `1..5`, `0/15`, `8,12..18/2`.

/// The values that one part of an expression names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// `*`
    Any,
    /// The values that at least one item of the list names.
    List(Vec<Item>),
}

/// One item of a list: a value, or values at even distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub first: i64,
    /// No value above this; `None`: as far as the part goes.
    pub last: Option<i64>,
    /// The distance between two; `None`: `first` only.
    pub step: Option<i64>,
}

impl Field {
    /// One value.
    pub fn only(value: i64) -> Self {
        Self::List(vec![Item { first: value, last: None, step: None }])
    }

    /// Whether every value is named, by `*`.
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// Whether `value` is named, in a part that goes up to `end`.
    pub fn has(&self, value: i64, end: i64) -> bool {
        self.at_or_after(value, end) == Some(value)
    }

    /// The first value named that is not below `value` nor above `end`.
    pub fn at_or_after(&self, value: i64, end: i64) -> Option<i64> {
        let Self::List(items) = self else { return (value <= end).then_some(value) };
        items.iter().filter_map(|item| item.at_or_after(value, end)).min()
    }

    /// The same with each value `n` read as `origin - n`. Steps go up in any case: `~7/2` is each second day of the
    /// month's last seven, and `~1..3` are its last three.
    pub fn counted_from(&self, origin: i64) -> Self {
        let Self::List(items) = self else { return Self::Any };
        let mirrored = items.iter().map(|item| match item.last {
            Some(last) => Item { first: origin - last, last: Some(origin - item.first), step: item.step },
            None => Item { first: origin - item.first, ..*item },
        });
        Self::List(mirrored.collect())
    }
}

impl Item {
    /// The same with the last value that is reached for its last; without it, where that is the first.
    pub fn simplified(self) -> Self {
        match self {
            Self { first, last: Some(last), step: Some(step) } if first <= last && step > 0 => {
                let last = last - (last - first) % step;
                if last == first { Self { first, last: None, step: None } } else { Self { last: Some(last), ..self } }
            }
            other => other,
        }
    }

    fn at_or_after(self, value: i64, end: i64) -> Option<i64> {
        let end = self.last.map_or(end, |last| last.min(end));
        let found = match self.step {
            _ if value <= self.first => self.first,
            Some(step) => self.first + (value - self.first + step - 1) / step * step,
            None => return None,
        };
        (found <= end).then_some(found)
    }
}
