//! The words of a command in incron's table.
//!
//! incron 0.5.11 and newer replace `$@`, `$#`, `$%` and `$&` in the text of the command, whatever quotes surround them, and
//! give the text to `/bin/bash -c`. `$$` becomes `$`, and any other `$` is dropped. [`split`] does the same in the
//! reverse order: it splits as bash does and keeps each variable as a [`Piece`] of its word, so that no value is ever
//! read as syntax.

use std::collections::VecDeque;

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Characters of the table.
    Text(String),
    /// `$@/$#`: the path of the event.
    Path,
    /// `$@`: the directory of the path.
    Directory,
    /// `$#`: the last component of the path.
    Name,
    /// `$%`: the names of the events.
    Events,
}

/// A word, without its quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    /// Never two texts in a row.
    pub pieces: Vec<Piece>,
    /// As written in the table.
    pub written: String,
}

/// A part of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A program or an argument.
    Word(Word),
    /// `&&`, `||` or `;`
    Separator(&'static str),
    /// A redirection and its target; the target is empty for `2>&1`.
    Redirection(String, Word),
}

/// Why a command cannot be split into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitError {
    /// A quote is open.
    Unbalanced,
    /// Syntax of bash that is not a word, a list or a redirection.
    Shell(String),
}

/// A character, or a variable of incron.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A character of the command.
    Character(char),
    /// A variable, with the characters that it is written with.
    Variable(Piece, &'static str),
    /// `$&`: the events as a number.
    Mask,
}

/// The characters and variables of a command, and the characters whose `$` incron drops.
pub fn units(command: &str) -> (Vec<Unit>, Vec<char>) {
    let (mut units, mut dropped) = (Vec::new(), Vec::new());
    let mut rest = command;
    while let Some(character) = rest.chars().next() {
        let found = [("$@", Piece::Directory), ("$#", Piece::Name), ("$%", Piece::Events)]
            .into_iter()
            .find(|(name, _)| rest.starts_with(name));
        let length = match found {
            Some((name, piece)) => {
                units.push(Unit::Variable(piece, name));
                name.len()
            }
            None if rest.starts_with("$&") => {
                units.push(Unit::Mask);
                2
            }
            None if rest.starts_with("$$") => {
                units.push(Unit::Character('$'));
                2
            }
            None if character == '$' => {
                dropped.extend(rest.chars().nth(1));
                1
            }
            None => {
                units.push(Unit::Character(character));
                character.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    (units, dropped)
}

/// The words, lists and redirections of a command.
pub fn split(units: Vec<Unit>) -> Result<Vec<Token>, SplitError> {
    Splitter { units: units.into(), tokens: Vec::new(), word: None, plain: true, redirection: None }.run()
}

struct Splitter {
    units: VecDeque<Unit>,
    tokens: Vec<Token>,
    /// The word that is being read.
    word: Option<Word>,
    /// The word has no quote, backslash or variable so far.
    plain: bool,
    /// A redirection that waits for its target.
    redirection: Option<String>,
}

impl Splitter {
    fn run(mut self) -> Result<Vec<Token>, SplitError> {
        while let Some(unit) = self.units.pop_front() {
            let character = match unit {
                Unit::Character(character) => character,
                other => {
                    self.variable(other);
                    continue;
                }
            };
            match character {
                ' ' | '\t' => self.end_word(),
                '#' if self.word.is_none() => break,
                '\\' => self.backslash()?,
                '\'' => self.single_quotes()?,
                '"' => self.double_quotes()?,
                ';' | '&' | '|' | '<' | '>' => self.operator(character)?,
                '\n' | '\r' | '(' | ')' | '`' | '$' | '*' | '?' | '[' | '~' => return Err(self.shell(character)),
                '{' if self.units.front() != Some(&Unit::Character('}')) => return Err(self.shell(character)),
                '!' if self.word.is_none() && self.is_first() => return Err(self.shell(character)),
                '=' if self.is_assignment() => return Err(self.shell(character)),
                other => self.push(other, other.encode_utf8(&mut [0; 4])),
            }
        }
        self.end_word();
        match self.redirection {
            Some(operator) => Err(SplitError::Shell(operator)),
            None => Ok(self.tokens),
        }
    }

    fn push(&mut self, character: char, written: &str) {
        let word = self.word.get_or_insert_default();
        word.written.push_str(written);
        match word.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(character),
            _ => word.pieces.push(Piece::Text(character.into())),
        }
    }

    fn variable(&mut self, unit: Unit) {
        let Unit::Variable(piece, written) = unit else { return };
        self.plain = false;
        let word = self.word.get_or_insert_default();
        word.written.push_str(written);
        if piece == Piece::Name
            && let [.., Piece::Directory, Piece::Text(slash)] = word.pieces.as_slice()
            && slash == "/"
        {
            word.pieces.truncate(word.pieces.len() - 2);
            word.pieces.push(Piece::Path);
        } else {
            word.pieces.push(piece);
        }
    }

    /// Starts a word, also an empty one, and notes what it is written with.
    fn quote(&mut self, written: char) {
        self.plain = false;
        self.word.get_or_insert_default().written.push(written);
    }

    fn backslash(&mut self) -> Result<(), SplitError> {
        if let Some(Unit::Variable(..) | Unit::Mask) = self.units.front() {
            // It would take the meaning of the value's first character.
            return Err(self.shell('\\'));
        }
        self.quote('\\');
        match self.units.pop_front() {
            Some(Unit::Character(character)) => self.push(character, character.encode_utf8(&mut [0; 4])),
            _ => self.push('\\', ""),
        }
        Ok(())
    }

    fn single_quotes(&mut self) -> Result<(), SplitError> {
        self.quote('\'');
        loop {
            match self.units.pop_front() {
                None => return Err(SplitError::Unbalanced),
                Some(Unit::Character('\'')) => break,
                Some(Unit::Character(character)) => self.push(character, character.encode_utf8(&mut [0; 4])),
                Some(variable) => self.variable(variable),
            }
        }
        self.quote('\'');
        Ok(())
    }

    fn double_quotes(&mut self) -> Result<(), SplitError> {
        self.quote('"');
        loop {
            match self.units.pop_front() {
                None => return Err(SplitError::Unbalanced),
                Some(Unit::Character('"')) => break,
                Some(Unit::Character(character @ ('$' | '`'))) => return Err(self.shell(character)),
                Some(Unit::Character('\\')) => match self.units.front().cloned() {
                    Some(Unit::Character(character @ ('$' | '`' | '"' | '\\'))) => {
                        self.units.pop_front();
                        self.quote('\\');
                        self.push(character, character.encode_utf8(&mut [0; 4]));
                    }
                    Some(Unit::Character(_)) | None => self.push('\\', "\\"),
                    Some(_) => return Err(self.shell('\\')),
                },
                Some(Unit::Character(character)) => self.push(character, character.encode_utf8(&mut [0; 4])),
                Some(variable) => self.variable(variable),
            }
        }
        self.quote('"');
        Ok(())
    }

    /// `;`, `&&`, `||` or a redirection.
    fn operator(&mut self, first: char) -> Result<(), SplitError> {
        let is_next = |splitter: &Self, wanted| splitter.units.front() == Some(&Unit::Character(wanted));
        let is_doubled = is_next(self, first);
        let separator = match first {
            ';' if !is_doubled => Some(";"),
            '&' if is_doubled => Some("&&"),
            '|' if is_doubled => Some("||"),
            _ => None,
        };
        if let Some(separator) = separator {
            self.end_word();
            if self.redirection.is_some() {
                return Err(self.shell(first));
            }
            self.units.drain(..separator.len() - 1);
            self.tokens.push(Token::Separator(separator));
            return Ok(());
        }
        let mut operator = String::new();
        match first {
            '&' if is_next(self, '>') => {
                self.units.pop_front();
                self.end_word();
                operator.push_str("&>");
            }
            '<' | '>' => {
                // A number directly before it is that of the descriptor.
                match self.word.take() {
                    Some(word) if self.plain && matches!(word.written.as_str(), "0" | "1" | "2") => {
                        operator.push_str(&word.written);
                    }
                    word => {
                        self.word = word;
                        self.end_word();
                    }
                }
                operator.push(first);
            }
            _ => return Err(self.shell(first)),
        }
        if self.redirection.is_some() {
            return Err(self.shell(first));
        }
        if first != '<' && is_next(self, '>') {
            self.units.pop_front();
            operator.push('>');
        }
        if is_next(self, '&') {
            self.units.pop_front();
            match self.units.pop_front() {
                Some(Unit::Character(descriptor @ '0'..='2')) => {
                    operator.extend(['&', descriptor]);
                    let ends = matches!(
                        self.units.front(),
                        None | Some(Unit::Character(' ' | '\t' | ';' | '&' | '|' | '<' | '>'))
                    );
                    if !ends || operator.contains(">>") {
                        return Err(SplitError::Shell(operator));
                    }
                    self.tokens.push(Token::Redirection(operator, Word::default()));
                    return Ok(());
                }
                _ => return Err(SplitError::Shell(format!("{operator}&"))),
            }
        }
        if [first, '|', '('].iter().any(|next| is_next(self, *next)) {
            return Err(SplitError::Shell(operator));
        }
        self.redirection = Some(operator);
        Ok(())
    }

    fn end_word(&mut self) {
        self.plain = true;
        if let Some(word) = self.word.take() {
            self.tokens.push(match self.redirection.take() {
                Some(operator) => Token::Redirection(operator, word),
                None => Token::Word(word),
            });
        }
    }

    /// Whether the word is the first of its command.
    fn is_first(&self) -> bool {
        !matches!(self.tokens.last(), Some(Token::Word(_)))
    }

    /// Whether `=` ends the name of a variable that bash would set.
    fn is_assignment(&self) -> bool {
        let is_name = |word: &Word| {
            let name = word.written.trim_end_matches('+');
            !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        self.is_first() && self.plain && self.redirection.is_none() && self.word.as_ref().is_some_and(is_name)
    }

    /// The syntax at `character`: what the word has so far, and up to the next blank.
    fn shell(&mut self, character: char) -> SplitError {
        let mut text = self.word.take().map(|word| word.written).unwrap_or_default();
        text.push(character);
        while let Some(unit) = self.units.pop_front() {
            match unit {
                Unit::Character(' ' | '\t') => break,
                Unit::Character(character) => text.push(character),
                Unit::Variable(_, written) => text.push_str(written),
                Unit::Mask => text.push_str("$&"),
            }
        }
        SplitError::Shell(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(command: &str) -> Result<Vec<Token>, SplitError> {
        split(units(command).0)
    }

    fn words(command: &str) -> Vec<Vec<Piece>> {
        let tokens = tokens(command).unwrap_or_else(|error| panic!("{command}: {error:?}"));
        let pieces = tokens.into_iter().map(|token| match token {
            Token::Word(word) => word.pieces,
            other => panic!("{command}: {other:?}"),
        });
        pieces.collect()
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn words_are_those_of_bash() {
        for (command, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("a 'b  c' \"d e\" f\\ g", &["a", "b  c", "d e", "f g"]),
            ("a x=1 {} }", &["a", "x=1", "{}", "}"]),
            ("a 'it'\\''s' \"\\\"\\x\"", &["a", "it's", "\"\\x"]),
            ("a '$$1' \"\\$$\" $HOME", &["a", "$1", "$", "HOME"]),
            ("a b#c # d 'e", &["a", "b#c"]),
            ("a\u{a0}b 图", &["a\u{a0}b", "图"]),
            ("a b\\", &["a", "b\\"]),
        ] {
            let expected: Vec<Vec<Piece>> = expected.iter().map(|word| vec![text(word)]).collect();
            assert_eq!(words(command), expected, "{command}");
        }
        assert_eq!(words("''"), [vec![]]);
    }

    #[test]
    fn variables_are_pieces_whatever_quotes_surround_them() {
        for command in ["$@/$#", "'$@/$#'", "\"$@/$#\"", "\"$@\"/'$#'"] {
            assert_eq!(words(command), [vec![Piece::Path]], "{command}");
        }
        assert_eq!(words("$@ $# $%"), [[Piece::Directory], [Piece::Name], [Piece::Events]]);
        assert_eq!(words("/b/$#.gz"), [vec![text("/b/"), Piece::Name, text(".gz")]]);
        assert_eq!(words("'$$@' '$$$#'"), [vec![text("$@")], vec![text("$"), Piece::Name]]);
        assert_eq!(units("$x $").1, ['x']);
        assert!(units("$&").0.contains(&Unit::Mask) && !units("$$&").0.contains(&Unit::Mask));
    }

    #[test]
    fn lists_and_redirections_are_tokens() {
        let found = tokens("a 2>&1 >>/l&&b;c &>/dev/null 2>x").unwrap();
        let operators: Vec<String> = found
            .iter()
            .map(|token| match token {
                Token::Word(word) => word.written.clone(),
                Token::Separator(separator) => (*separator).to_owned(),
                Token::Redirection(operator, word) => format!("{operator} {}", word.written),
            })
            .collect();
        assert_eq!(operators, ["a", "2>&1 ", ">> /l", "&&", "b", ";", "c", "&> /dev/null", "2> x"]);
    }

    #[test]
    fn other_syntax_is_named() {
        for (command, expected) in [
            ("a | b", "|"),
            ("a &", "&"),
            ("a $$(b) c", "$(b)"),
            ("a x`b`", "x`b`"),
            ("a \"$$x\"", "\"$x\""),
            ("a *.x", "*.x"),
            ("X=1 a", "X=1"),
            ("a && X=1 b", "X=1"),
            ("{ a; }", "{"),
            ("! a", "!"),
            ("(a)", "(a)"),
            ("a <<<b", "<"),
            ("a <(b)", "<"),
            ("a ;; b", ";;"),
            ("a >", ">"),
            ("a >| b", ">"),
            ("a \\$#", "\\$#"),
            ("a ~/x", "~/x"),
            ("a b{c,d}", "b{c,d}"),
            ("a > > b", ">"),
            ("a >&3", ">&"),
        ] {
            assert_eq!(tokens(command), Err(SplitError::Shell(expected.to_owned())), "{command}");
        }
        assert_eq!(tokens("a 'b"), Err(SplitError::Unbalanced));
        assert_eq!(tokens("a \"b"), Err(SplitError::Unbalanced));
    }
}
