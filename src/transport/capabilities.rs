//! What a remote's rsync accepts, learned from its answers and kept for each remote.
//!
//! Measured against daemons of 3.0.6, 3.1.1 and 3.5.0: an option that the remote does not know ends the run, now with
//! a word that names it, now without a reason ("connection reset"), and the version in the greeting does not settle
//! it. So an option counts as unknown until a run that used it succeeded. When the remote names it, it is refused. When
//! a run fails without a reason it is tried again with less at once; and only a success with less, seen twice, proves
//! that it was the option: a connection lost by chance looks the same, once.

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
    /// That happened twice, or the remote said so.
    Refused,
}

impl Support {
    /// Whether to use the option.
    pub fn is_worth_a_try(self) -> bool {
        self != Self::Refused
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Unknown | Self::Suspected)
    }

    /// One more run speaks against the option.
    pub(super) fn blame(self) -> Self {
        if matches!(self, Self::Suspected | Self::Refused) { Self::Refused } else { Self::Suspected }
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
    /// No option of rsync's: a shell that renames (`moves`).
    pub moves: Support,
}

impl Capabilities {
    /// The options found to be refused, as one would write them.
    pub fn refused(&self) -> Vec<&'static str> {
        let options = [
            (self.nanoseconds, "--modify-window=-1"),
            (self.delete_missing_args, "--delete-missing-args"),
            (self.info, "--info"),
        ];
        options.iter().filter(|(support, _)| *support == Support::Refused).map(|(_, name)| *name).collect()
    }

    /// Whether the remote is known to delete what is missing here by name.
    pub(super) fn deletes_missing(&self) -> bool {
        self.delete_missing_args == Support::Accepted
    }

    /// After a lost connection the remote may be another: what it accepted has to be seen again.
    pub fn after_connection_loss(self) -> Self {
        let forget = |support| if support == Support::Accepted { Support::Unknown } else { support };
        Self { moves: Support::Unknown, ..self.map(forget, Used::ALL) }
    }

    /// The steps of leaving out what may be the reason that a run failed which used `used`: what is suspected already;
    /// one by one, so that none is blamed for another; all of it.
    pub(super) fn less(self, used: Used) -> Vec<Self> {
        let open = Used {
            nanoseconds: used.nanoseconds && self.nanoseconds.is_open(),
            delete_missing_args: used.delete_missing_args && self.delete_missing_args.is_open(),
            info: used.info && self.info.is_open(),
        };
        let suspected = Used {
            nanoseconds: open.nanoseconds && self.nanoseconds == Support::Suspected,
            delete_missing_args: open.delete_missing_args && self.delete_missing_args == Support::Suspected,
            info: open.info && self.info == Support::Suspected,
        };
        // No run uses the other two at once.
        let singly = [Used { nanoseconds: open.nanoseconds, ..Used::default() }, Used { nanoseconds: false, ..open }];
        let mut steps: Vec<Used> = Vec::new();
        for step in [suspected, singly[0], singly[1], open] {
            if step != Used::default() && !steps.contains(&step) {
                steps.push(step);
            }
        }
        steps.into_iter().map(|without| self.map(|_| Support::Refused, without)).collect()
    }

    /// With the option refused that the remote's `words` name, if `used` has it.
    pub(super) fn without_named(self, words: &str, used: Used) -> Option<Self> {
        words.lines().find_map(|line| {
            let names =
                |option| line.contains(option) && (line.contains("unknown option") || line.contains("to refuse"));
            // Named by what it puts into the list: a missing path is sent with no mode at all.
            let missing = names("--delete-missing-args") || line.starts_with("invalid file mode 00 for ");
            let named = Used {
                // `-@-1` is how --modify-window=-1 is sent.
                nanoseconds: used.nanoseconds && (names("--modify-window") || names("-@")),
                delete_missing_args: used.delete_missing_args && missing,
                info: used.info && names("--info"),
            };
            (named != Used::default()).then(|| self.map(|_| Support::Refused, named))
        })
    }

    /// Learns from a run that failed with `failed`, if it did, and succeeded with `used`.
    pub(super) fn learn(&mut self, failed: Option<Used>, used: Used) {
        let failed = failed.unwrap_or(used);
        let left_out = Used {
            nanoseconds: failed.nanoseconds && !used.nanoseconds,
            delete_missing_args: failed.delete_missing_args && !used.delete_missing_args,
            info: failed.info && !used.info,
        };
        *self = self.map(Support::blame, left_out).map(|_| Support::Accepted, used);
    }

    /// What was refused is tried once more: the remote's rsync may be a newer one by now, or the connection was lost by
    /// chance each time.
    pub fn reconsidered(self) -> Self {
        self.map(|support| if support == Support::Refused { Support::Suspected } else { support }, Used::ALL)
    }

    /// The same for the deletion by name alone, which no comparison of directories makes use of.
    pub fn deletion_reconsidered(self) -> Self {
        Self { delete_missing_args: self.reconsidered().delete_missing_args, ..self }
    }

    /// Takes over what a run learned; what others learned meanwhile stays.
    pub fn take_over(&mut self, Lesson { before, after }: Lesson) {
        let newer = |known: Support, before: Support, after: Support| match after {
            _ if after == before => known,
            Support::Suspected if known == Support::Refused => known,
            _ => after,
        };
        self.nanoseconds = newer(self.nanoseconds, before.nanoseconds, after.nanoseconds);
        self.delete_missing_args =
            newer(self.delete_missing_args, before.delete_missing_args, after.delete_missing_args);
        self.info = newer(self.info, before.info, after.info);
        self.moves = newer(self.moves, before.moves, after.moves);
    }

    fn map(self, change: impl Fn(Support) -> Support, options: Used) -> Self {
        let changed = |support, chosen| if chosen { change(support) } else { support };
        Self {
            nanoseconds: changed(self.nanoseconds, options.nanoseconds),
            delete_missing_args: changed(self.delete_missing_args, options.delete_missing_args),
            info: changed(self.info, options.info),
            moves: self.moves,
        }
    }
}

/// What a run knew of the remote when it started, and when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lesson {
    /// When it started.
    pub before: Capabilities,
    /// When it ended.
    pub after: Capabilities,
}

/// Some of the options: such as those a run used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Used {
    pub nanoseconds: bool,
    pub delete_missing_args: bool,
    pub info: bool,
}

impl Used {
    const ALL: Self = Self { nanoseconds: true, delete_missing_args: true, info: true };
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOSECONDS: Used = Used { nanoseconds: true, delete_missing_args: false, info: false };
    const NEITHER: Used = Used { nanoseconds: false, delete_missing_args: false, info: false };
    const INFO: Used = Used { nanoseconds: false, delete_missing_args: false, info: true };
    const DELETING: Used = Used { nanoseconds: true, delete_missing_args: true, info: false };

    #[test]
    fn only_two_successes_with_less_prove_a_refusal() {
        let mut known = Capabilities::default();
        known.learn(Some(NANOSECONDS), NEITHER);
        assert!(known.nanoseconds.is_worth_a_try() && known.refused().is_empty());
        known.learn(Some(NANOSECONDS), NEITHER);
        assert_eq!(known.refused(), ["--modify-window=-1"]);
        assert_eq!(known.delete_missing_args, Support::Unknown, "no run had it");

        let doubted = known.reconsidered();
        assert!(doubted.nanoseconds.is_worth_a_try(), "not for ever");
        let mut after = doubted;
        after.learn(Some(NANOSECONDS), NEITHER);
        assert_eq!(after.refused(), ["--modify-window=-1"], "but it takes one try only");
        known.take_over(Lesson { before: doubted, after: doubted });
        assert_eq!(known.refused(), ["--modify-window=-1"], "a run that learned nothing changes nothing");
    }

    #[test]
    fn none_is_blamed_for_another() {
        let known = Capabilities::default();
        let steps = known.less(DELETING);
        let refused: Vec<_> = steps.iter().map(Capabilities::refused).collect();
        let [nanoseconds, missing] = ["--modify-window=-1", "--delete-missing-args"];
        assert_eq!(refused, [vec![nanoseconds], vec![missing], vec![nanoseconds, missing]]);
        let mut known = known;
        known.learn(Some(DELETING), NANOSECONDS);
        assert_eq!((known.nanoseconds, known.delete_missing_args), (Support::Accepted, Support::Suspected));
        assert_eq!(known.less(DELETING).len(), 1, "a failure now has one explanation");
        assert_eq!(known.less(NANOSECONDS), [], "or none");
    }

    #[test]
    fn what_the_remote_names_is_refused_and_nothing_else() {
        let known = Capabilities::default();
        let refused = |words: &str| known.without_named(words, Used::ALL).map(|known| known.refused());
        assert_eq!(refused("rsync: on remote machine: -@-1: unknown option"), Some(vec!["--modify-window=-1"]));
        let words = "rsync: The server is configured to refuse --modify-window (-@)\nrsync error: (code 4)";
        assert_eq!(refused(words), Some(vec!["--modify-window=-1"]));
        let words = "rsync: on remote machine: --delete-missing-args: unknown option";
        assert_eq!(refused(words), Some(vec!["--delete-missing-args"]));
        assert_eq!(refused("invalid file mode 00 for a/gone [Receiver]"), Some(vec!["--delete-missing-args"]));
        assert_eq!(refused("rsync: The server is configured to refuse --delete"), None);
        assert_eq!(known.without_named(words, NANOSECONDS), None, "it was not used");
    }

    #[test]
    fn what_was_accepted_is_seen_again_after_a_lost_connection() {
        let mut known = Capabilities::default();
        known.learn(None, Used::ALL);
        assert_eq!(known.less(Used::ALL), [], "a failure now has another reason");
        assert!(!known.after_connection_loss().less(Used::ALL).is_empty());
    }

    #[test]
    fn runs_side_by_side_do_not_unlearn_for_each_other() {
        let before = Capabilities::default();
        let (mut first, mut second) = (before, before);
        first.learn(Some(Used { nanoseconds: true, ..INFO }), INFO);
        second.learn(None, NEITHER);
        let mut known = before;
        known.take_over(Lesson { before, after: first });
        known.take_over(Lesson { before, after: second });
        assert_eq!(known, first);
        let refusing = first.map(|_| Support::Refused, NANOSECONDS);
        known.take_over(Lesson { before: first, after: refusing });
        known.take_over(Lesson { before, after: first });
        assert_eq!(known.refused(), ["--modify-window=-1"], "a suspicion does not weaken a proof");
    }
}
