//! What a remote's rsync accepts, learned from its answers and kept for each remote.
//!
//! Measured against daemons of 3.0.6, 3.1.1 and 3.5.0: an option that the remote does not know ends the run, often
//! without a reason ("connection reset"), and the version in the greeting does not settle it. So an option counts as
//! unknown until a run that used it succeeded; a run that fails in a way that an unknown option could explain is
//! tried again with less at once; and only a success with less, seen twice, proves that it was the option.

/// What is known of one option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    /// Not tried yet, or not since the connection last failed.
    #[default]
    Unknown,
    /// A run that used it succeeded.
    Accepted,
    /// One run failed with it and succeeded without it; a connection lost by chance would look the same.
    Suspected,
    /// That happened twice.
    Refused,
}

impl Support {
    /// Whether to use the option.
    pub fn is_worth_a_try(self) -> bool {
        self != Self::Refused
    }
}

/// What a remote accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// `--modify-window=-1`: times are compared to the nanosecond (rsync 3.1.3).
    pub nanoseconds: Support,
    /// `--delete-missing-args` (rsync 3.1.0).
    pub delete_missing_args: Support,
    /// `--info=…` (rsync 3.1.0).
    pub info: Support,
}

impl Capabilities {
    /// The options found to be refused, as one would write them.
    pub fn refused(&self) -> Vec<String> {
        let options = [
            (self.nanoseconds, "--modify-window=-1"),
            (self.delete_missing_args, "--delete-missing-args"),
            (self.info, "--info"),
        ];
        options.iter().filter(|(support, _)| *support == Support::Refused).map(|(_, name)| (*name).to_owned()).collect()
    }

    /// After a lost connection the remote may be another: what it accepted has to be seen again.
    pub fn after_connection_loss(self) -> Self {
        let forget = |support| if support == Support::Accepted { Support::Unknown } else { support };
        Self {
            nanoseconds: forget(self.nanoseconds),
            delete_missing_args: forget(self.delete_missing_args),
            info: forget(self.info),
        }
    }

    /// With less of what is still unknown, the newest option first; `None` when nothing is left to leave out.
    pub(super) fn with_less(self) -> Option<Self> {
        let is_open = |support| matches!(support, Support::Unknown | Support::Suspected);
        if is_open(self.nanoseconds) {
            return Some(Self { nanoseconds: Support::Refused, ..self });
        }
        if is_open(self.delete_missing_args) || is_open(self.info) {
            return Some(Self { delete_missing_args: Support::Refused, info: Support::Refused, ..self });
        }
        None
    }

    /// Learns from a run that succeeded using `used`, after the same run had `failed` using more, if it had. What both
    /// left out, or neither, is not to blame.
    pub(super) fn learn(&mut self, used: Used, failed: Option<Used>) {
        let failed = failed.unwrap_or(used);
        let learn = |support: &mut Support, used: bool, failed: bool| {
            if used {
                *support = Support::Accepted;
            } else if failed {
                *support = match *support {
                    Support::Suspected | Support::Refused => Support::Refused,
                    Support::Unknown | Support::Accepted => Support::Suspected,
                };
            }
        };
        learn(&mut self.nanoseconds, used.nanoseconds, failed.nanoseconds);
        learn(&mut self.delete_missing_args, used.delete_missing_args, failed.delete_missing_args);
        learn(&mut self.info, used.info, failed.info);
    }

    /// What was refused is tried once more: the remote's rsync may be a newer one by now, or the connection was lost by
    /// chance each time.
    pub fn reconsidered(self) -> Self {
        let doubt = |support| if support == Support::Refused { Support::Suspected } else { support };
        Self {
            nanoseconds: doubt(self.nanoseconds),
            delete_missing_args: doubt(self.delete_missing_args),
            info: doubt(self.info),
        }
    }
}

/// Which of the options a run used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Used {
    pub nanoseconds: bool,
    pub delete_missing_args: bool,
    pub info: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_successes_with_less_prove_a_refusal() {
        let all = Used { nanoseconds: true, delete_missing_args: true, info: true };
        let mut known = Capabilities::default();
        known.learn(Used { nanoseconds: false, ..all }, Some(all));
        assert!(known.nanoseconds.is_worth_a_try() && known.refused().is_empty());
        known.learn(Used { nanoseconds: false, ..all }, Some(all));
        assert_eq!(known.refused(), ["--modify-window=-1"]);
        known.learn(Used { nanoseconds: false, ..all }, None);
        assert_eq!(known.refused(), ["--modify-window=-1"]);
        known = known.reconsidered();
        assert!(known.nanoseconds.is_worth_a_try(), "not for ever");
        known.learn(Used { nanoseconds: false, ..all }, Some(all));
        assert_eq!(known.refused(), ["--modify-window=-1"], "but it takes one try only");
    }

    #[test]
    fn what_was_left_out_in_vain_is_not_to_blame() {
        let nearly_all = Used { nanoseconds: false, delete_missing_args: true, info: true };
        let mut known = Capabilities::default();
        for _ in 0..3 {
            known.learn(Used::default(), Some(nearly_all));
        }
        assert_eq!(known.nanoseconds, Support::Unknown);
        assert_eq!(known.refused(), ["--delete-missing-args", "--info"]);
    }

    #[test]
    fn what_was_accepted_is_seen_again_after_a_lost_connection() {
        let mut known = Capabilities::default();
        known.learn(Used { nanoseconds: true, delete_missing_args: true, info: true }, None);
        assert_eq!(known.with_less(), None, "a failure now has another reason");
        assert!(known.after_connection_loss().with_less().is_some());
    }
}
