//! Lua's words and signs, each with its line.

use tr::tr;

use super::Broken;

/// A word or a sign.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name.
    Name(String),
    /// A string.
    Text(String),
    /// A number.
    Number(f64),
    /// A keyword or a sign.
    Sign(&'static str),
    /// Behind the last one.
    End,
}

const KEYWORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// The longer ones first.
const SIGNS: [&str; 33] = [
    "...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>", "+", "-", "*", "/", "%", "^", "#", "&", "~", "|", "<",
    ">", "=", "(", ")", "{", "}", "[", "]", ";", ":", ",", ".",
];

/// All of `text`, and the end.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Broken> {
    let mut lexer = Lexer { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    // `#!` of a script.
    if lexer.rest.starts_with('#') {
        lexer.skip_line();
    }
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let line = lexer.line;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((line, token));
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Lexer<'t> {
    fn broken<T>(&self, what: impl Into<String>) -> Result<T, Broken> {
        Err(Broken { line: self.line, what: what.into() })
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.find('\n').map_or("", |at| &self.rest[at..]);
    }

    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip_blanks(&mut self) -> Result<(), Broken> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            let Some(comment) = self.rest.strip_prefix("--") else { return Ok(()) };
            if long_bracket(comment).is_some() {
                self.take(2);
                self.long_text()?;
            } else {
                self.skip_line();
            }
        }
    }

    /// The text between `[[` and `]]`, or `[==[` and `]==]`.
    fn long_text(&mut self) -> Result<String, Broken> {
        let Some(level) = long_bracket(self.rest) else { return self.broken(tr!("a bracket is missing")) };
        let close = format!("]{}]", "=".repeat(level));
        let Some(end) = self.rest[level + 2..].find(&close) else {
            return self.broken(tr!("a long string or comment is not closed"));
        };
        let whole = self.take(level + 2 + end + close.len());
        let inner = &whole[level + 2..level + 2 + end];
        Ok(inner.strip_prefix('\n').unwrap_or(inner).to_owned())
    }

    fn token(&mut self) -> Result<Token, Broken> {
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        if first == '_' || first.is_ascii_alphabetic() {
            let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
            let word = self.take(self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len()));
            let keyword = KEYWORDS.iter().find(|keyword| **keyword == word);
            return Ok(keyword.map_or_else(|| Token::Name(word.to_owned()), |keyword| Token::Sign(keyword)));
        }
        let second_is_digit = self.rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || first == '.' && second_is_digit {
            return self.number();
        }
        if first == '"' || first == '\'' {
            return self.short_text(first).map(Token::Text);
        }
        if long_bracket(self.rest).is_some() {
            return self.long_text().map(Token::Text);
        }
        match SIGNS.iter().find(|sign| self.rest.starts_with(**sign)) {
            Some(sign) => {
                self.take(sign.len());
                Ok(Token::Sign(sign))
            }
            None => self.broken(tr!("{sign} stands where nothing like it can", sign = format_args!("{first:?}"))),
        }
    }

    fn number(&mut self) -> Result<Token, Broken> {
        let is_hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let mut end = 0;
        let mut before = ' ';
        for character in self.rest.chars() {
            let is_sign = matches!(character, '+' | '-') && matches!(before, 'e' | 'E') && !is_hex;
            if !(character.is_ascii_alphanumeric() || character == '.' || is_sign) {
                break;
            }
            before = character;
            end += 1;
        }
        let word = self.take(end);
        let value = match is_hex {
            // No setting of lsyncd is larger.
            true => u32::from_str_radix(&word[2..], 16).ok().map(f64::from),
            false => word.parse().ok(),
        };
        value.map(Token::Number).map_or_else(|| self.broken(tr!("{word} is no number", word)), Ok)
    }

    fn short_text(&mut self, quote: char) -> Result<String, Broken> {
        self.take(1);
        let mut text = String::new();
        loop {
            let Some(character) = self.rest.chars().next() else { return self.broken(tr!("a string is not closed")) };
            if character == '\n' {
                return self.broken(tr!("a string is not closed on its line"));
            }
            self.take(character.len_utf8());
            match character {
                '\\' => self.escape(&mut text)?,
                _ if character == quote => return Ok(text),
                _ => text.push(character),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Broken> {
        let Some(character) = self.rest.chars().next() else { return self.broken(tr!("a string is not closed")) };
        if character.is_ascii_digit() {
            let digits = self.rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
            let code = self.take(digits).parse::<u32>().unwrap_or(u32::MAX);
            text.push(byte(code));
            return Ok(());
        }
        self.take(character.len_utf8());
        match character {
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{b}'),
            'x' => {
                let code = self.rest.get(..2).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let Some(code) = code else { return self.broken(tr!("\\x is followed by two digits")) };
                self.take(2);
                text.push(byte(code));
            }
            'z' => {
                let blank = self.rest.len() - self.rest.trim_start().len();
                self.take(blank);
            }
            'u' => {
                let inner = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(inner, _)| inner);
                let code = inner.and_then(|inner| u32::from_str_radix(inner, 16).ok()).and_then(char::from_u32);
                let (Some(inner), Some(code)) = (inner, code) else {
                    return self.broken(tr!("\\u names no character"));
                };
                self.take(inner.len() + 2);
                text.push(code);
            }
            '\n' | '\\' | '"' | '\'' => text.push(character),
            other => return self.broken(tr!("\\{other} is no escape", other)),
        }
        Ok(())
    }
}

/// A byte that is no character by itself cannot be part of a config's text.
fn byte(code: u32) -> char {
    char::from_u32(code).filter(char::is_ascii).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The number of `=` in a long bracket that `text` begins with.
fn long_bracket(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let level = inner.bytes().take_while(|byte| *byte == b'=').count();
    inner[level..].starts_with('[').then_some(level)
}
