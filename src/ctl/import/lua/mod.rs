//! The declarative part of Lua that configs of lsyncd are written in: constants, tables, and the calls `settings{…}`
//! and `sync{…}`.
//!
//! Nothing is run. What is not a constant is read past as Lua's grammar has it, and told with its line; what a skipped
//! block assigns to counts as unknown from there on.

mod expression;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashMap;
use std::fmt;
use tokens::{Token, tokens};
use tr::tr;

/// What an expression stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `nil`.
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// `{…}`.
    Table(Vec<Field>),
    /// A name that nothing was assigned to, such as `default.rsync`.
    Name(String),
    /// `name(…)`, not run.
    Call(String, Vec<Value>),
    /// What only running it would tell.
    Unknown(String),
}

/// One field of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its line.
    pub line: usize,
    /// Its name; `None` for one without.
    pub name: Option<String>,
    /// Its value.
    pub value: Value,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Table(_) => f.write_str(&tr!("a table")),
            Self::Name(name) => f.write_str(&tr!("the name {name}", name)),
            Self::Call(name, _) => f.write_str(&tr!("a call of {name}", name)),
            Self::Unknown(what) => f.write_str(what),
        }
    }
}

/// What a file says, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `settings{…}`.
    Settings(Vec<Field>),
    /// `sync{…}`, and its line.
    Sync(usize, Vec<Field>),
    /// A line that was not followed, and why.
    Skipped(usize, String),
}

/// Reads all of `text`. What is no Lua ends it.
pub fn read(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let tokens = match tokens(text) {
        Ok(tokens) => tokens,
        Err(Broken { line, what }) => return vec![Item::Skipped(line, tr!("this is no Lua: {what}", what))],
    };
    let mut reader = Reader { tokens, at: 0, depth: 0, names: HashMap::new(), items: Vec::new() };
    while !reader.is(&Token::End) {
        if let Err(Broken { line, what }) = reader.statement() {
            reader.items.push(Item::Skipped(line, tr!("from here on it cannot be read: {what}", what)));
            break;
        }
    }
    items.append(&mut reader.items);
    items
}

#[derive(Debug)]
struct Broken {
    line: usize,
    what: String,
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    names: HashMap<String, Value>,
    items: Vec<Item>,
}

impl Reader {
    /// The last token is the end, which is never passed.
    fn token(&self) -> &Token {
        &self.tokens[self.at].1
    }

    fn line(&self) -> usize {
        self.tokens[self.at].0
    }

    fn is(&self, token: &Token) -> bool {
        self.token() == token
    }

    fn advance(&mut self) -> Token {
        let token = self.token().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let found = self.is(&Token::Sign(sign));
        if found {
            self.advance();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), Broken> {
        if self.accept(sign) { Ok(()) } else { self.broken(tr!("{sign} is missing", sign)) }
    }

    fn broken<T>(&self, what: impl Into<String>) -> Result<T, Broken> {
        Err(Broken { line: self.line(), what: what.into() })
    }

    fn name(&mut self) -> Result<String, Broken> {
        match self.advance() {
            Token::Name(name) => Ok(name),
            _ => self.broken(tr!("a name is missing")),
        }
    }

    fn skip(&mut self, line: usize, what: impl Into<String>) {
        self.items.push(Item::Skipped(line, what.into()));
    }

    fn statement(&mut self) -> Result<(), Broken> {
        let line = self.line();
        let Token::Sign(sign) = *self.token() else { return self.call_or_assignment() };
        match sign {
            ";" => drop(self.advance()),
            "local" => {
                self.advance();
                if self.accept("function") {
                    return self.named_function(line);
                }
                self.assignment(line, true)?;
            }
            "function" => {
                self.advance();
                return self.named_function(line);
            }
            "if" | "for" | "while" | "do" | "repeat" => {
                let what = match sign {
                    "if" => tr!("a condition"),
                    "do" => tr!("a block"),
                    _ => tr!("a loop"),
                };
                let before = self.at;
                // `for … do` and `while … do` are closed by the end of their `do`.
                self.advance();
                if matches!(sign, "for" | "while") {
                    while !self.is(&Token::End) && !self.is(&Token::Sign("do")) {
                        self.advance();
                    }
                    self.advance();
                }
                self.rest_of_block()?;
                if sign == "repeat" {
                    self.expression(0)?;
                }
                let calls_sync =
                    self.tokens[before..self.at].iter().any(|(_, token)| *token == Token::Name("sync".into()));
                let why = match calls_sync {
                    true => {
                        tr!("{what}, which only running it would resolve: write each sync{{…}} of it by itself", what)
                    }
                    false => tr!("{what}, which only running it would resolve", what),
                };
                self.skip(line, why);
            }
            "return" | "break" | "goto" | "::" => {
                return self.broken(tr!("\"{sign}\" has no place in a config", sign));
            }
            _ => return self.call_or_assignment(),
        }
        Ok(())
    }

    fn named_function(&mut self, line: usize) -> Result<(), Broken> {
        let mut name = self.name()?;
        while self.accept(".") || self.accept(":") {
            name = format!("{name}.{}", self.name()?);
        }
        self.function_body()?;
        self.names.insert(name.clone(), Value::Unknown(tr!("the function {name}", name)));
        self.skip(line, tr!("the function {name}: functions are not run", name));
        Ok(())
    }

    /// Past parameters and body, to behind `end`.
    fn function_body(&mut self) -> Result<(), Broken> {
        self.expect("(")?;
        while !self.accept(")") {
            if self.is(&Token::End) {
                return self.broken(tr!(") is missing"));
            }
            self.advance();
        }
        self.rest_of_block()
    }

    /// To behind the `end` or `until` of the block that is open. What it assigns to is unknown from there on.
    fn rest_of_block(&mut self) -> Result<(), Broken> {
        let (mut open, start) = (1, self.line());
        while open > 0 {
            let line = self.line();
            match self.advance() {
                Token::Sign("function" | "if" | "do" | "repeat") => open += 1,
                Token::Sign("end" | "until") => open -= 1,
                Token::Name(name) if self.is(&Token::Sign("=")) => {
                    self.names.insert(name, Value::Unknown(tr!("a value that line {line} may set", line)));
                }
                Token::End => return Err(Broken { line: start, what: tr!("a block has no end") }),
                _ => {}
            }
        }
        Ok(())
    }

    fn call_or_assignment(&mut self) -> Result<(), Broken> {
        let (line, start) = (self.line(), self.at);
        let found = self.suffixed()?;
        if self.is(&Token::Sign("=")) || self.is(&Token::Sign(",")) {
            self.at = start;
            return self.assignment(line, false);
        }
        match found {
            Value::Call(name, mut arguments) => match (name.as_str(), arguments.pop(), arguments.is_empty()) {
                ("settings", Some(Value::Table(fields)), true) => self.items.push(Item::Settings(fields)),
                ("sync", Some(Value::Table(fields)), true) => self.items.push(Item::Sync(line, fields)),
                ("settings" | "sync", ..) => self.skip(line, tr!("{name} wants a table: {name}{{ … }}", name)),
                _ => self.skip(line, tr!("a call of {name}: nothing is run", name)),
            },
            other => return Err(Broken { line, what: tr!("{other} is no statement", other) }),
        }
        Ok(())
    }

    fn assignment(&mut self, line: usize, is_local: bool) -> Result<(), Broken> {
        let mut targets = Vec::new();
        loop {
            // A name is looked at before what it stands for.
            let name = match self.token() {
                Token::Name(name) => name.clone(),
                _ => return self.broken(tr!("a name is missing")),
            };
            let before = self.at;
            if is_local {
                self.advance();
                if self.accept("<") {
                    self.name()?;
                    self.expect(">")?;
                }
            } else {
                self.suffixed()?;
            }
            targets.push((name, is_local || self.at == before + 1));
            if !self.accept(",") {
                break;
            }
        }
        let mut values = Vec::new();
        if !is_local || self.is(&Token::Sign("=")) {
            self.expect("=")?;
            values.push(self.expression(0)?);
            while self.accept(",") {
                values.push(self.expression(0)?);
            }
        }
        let mut values = values.into_iter();
        for (name, is_whole) in targets {
            let value = values.next().unwrap_or(Value::Nil);
            match value {
                Value::Table(fields) if name == "settings" && is_whole => self.items.push(Item::Settings(fields)),
                value if is_whole => drop(self.names.insert(name, value)),
                _ => {
                    let unknown = Value::Unknown(tr!("{name}, a field of which line {line} sets", name, line));
                    self.names.insert(name.clone(), unknown);
                    self.skip(line, tr!("a field of {name} is set: write it into its table", name));
                }
            }
        }
        Ok(())
    }
}
