//! Lua's expressions: constants are worked out, all else is read past.

use super::{Broken, Field, Reader, Token, Value};
use tr::tr;

/// Deeper expressions are no config.
const DEPTH_LIMIT: usize = 100;

/// How strongly binary operators bind, to their left and to their right.
const BINARY: [(&str, u8, u8); 21] = [
    ("or", 1, 1),
    ("and", 2, 2),
    ("<", 3, 3),
    (">", 3, 3),
    ("<=", 3, 3),
    (">=", 3, 3),
    ("~=", 3, 3),
    ("==", 3, 3),
    ("|", 4, 4),
    ("~", 5, 5),
    ("&", 6, 6),
    ("<<", 7, 7),
    (">>", 7, 7),
    ("..", 9, 8),
    ("+", 10, 10),
    ("-", 10, 10),
    ("*", 11, 11),
    ("/", 11, 11),
    ("//", 11, 11),
    ("%", 11, 11),
    ("^", 14, 13),
];

const UNARY: u8 = 12;

impl Reader {
    pub(super) fn expression(&mut self, limit: u8) -> Result<Value, Broken> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return self.broken(tr!("it is nested too deeply"));
        }
        let mut value = match *self.token() {
            Token::Sign(sign @ ("-" | "not" | "#" | "~")) => {
                self.advance();
                let value = self.expression(UNARY)?;
                match (sign, value) {
                    ("-", Value::Number(number)) => Value::Number(-number),
                    ("not", Value::Bool(value)) => Value::Bool(!value),
                    ("not", Value::Nil) => Value::Bool(true),
                    (_, value) => Value::Unknown(tr!("{sign} of {value}", sign, value)),
                }
            }
            _ => self.simple()?,
        };
        while let Token::Sign(sign) = *self.token() {
            let Some((_, left, right)) = BINARY.iter().find(|(name, ..)| *name == sign) else { break };
            if *left <= limit {
                break;
            }
            self.advance();
            let other = self.expression(*right)?;
            value = combined(sign, value, other);
        }
        self.depth -= 1;
        Ok(value)
    }

    fn simple(&mut self) -> Result<Value, Broken> {
        let value = match self.token() {
            Token::Number(number) => Value::Number(*number),
            Token::Text(text) => Value::Text(text.clone()),
            Token::Sign("nil") => Value::Nil,
            Token::Sign("true") => Value::Bool(true),
            Token::Sign("false") => Value::Bool(false),
            Token::Sign("...") => Value::Unknown(tr!("an argument")),
            Token::Sign("{") => return self.table().map(Value::Table),
            Token::Sign("function") => {
                self.advance();
                self.function_body()?;
                return Ok(Value::Unknown(tr!("a function")));
            }
            _ => return self.suffixed(),
        };
        self.advance();
        Ok(value)
    }

    /// A name or an expression in parentheses, with fields, methods and calls behind it.
    pub(super) fn suffixed(&mut self) -> Result<Value, Broken> {
        let mut name = String::new();
        let mut value = match self.advance() {
            Token::Name(first) => {
                name.clone_from(&first);
                self.names.get(&first).cloned().unwrap_or(Value::Name(first))
            }
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                inner
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return self.broken(tr!("an expression is missing"));
            }
        };
        loop {
            let is_call = matches!(self.token(), Token::Sign("(" | "{") | Token::Text(_));
            if self.accept(".") {
                let field = self.name()?;
                name = format!("{name}.{field}");
                value = field_of(value, &field);
            } else if self.accept("[") {
                let key = self.expression(0)?;
                self.expect("]")?;
                value = match key {
                    Value::Text(field) => field_of(value, &field),
                    key => Value::Unknown(tr!("a field {key} of {value}", key, value)),
                };
            } else if self.accept(":") {
                name = format!("{name}:{}", self.name()?);
                self.arguments()?;
                value = Value::Unknown(tr!("a call of {name}", name));
            } else if is_call {
                value = Value::Call(name.clone(), self.arguments()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<Value>, Broken> {
        if let Token::Text(text) = self.token().clone() {
            self.advance();
            return Ok(vec![Value::Text(text)]);
        }
        if self.is(&Token::Sign("{")) {
            return Ok(vec![Value::Table(self.table()?)]);
        }
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.accept(")") {
            arguments.push(self.expression(0)?);
            if !self.accept(",") && !self.is(&Token::Sign(")")) {
                return self.broken(tr!(") is missing"));
            }
        }
        Ok(arguments)
    }

    fn table(&mut self) -> Result<Vec<Field>, Broken> {
        self.expect("{")?;
        let mut fields = Vec::new();
        while !self.accept("}") {
            let line = self.line();
            let next_is_equals = self.tokens.get(self.at + 1).is_some_and(|(_, token)| *token == Token::Sign("="));
            let name = match self.token().clone() {
                Token::Name(name) if next_is_equals => {
                    self.advance();
                    self.advance();
                    Some(name)
                }
                Token::Sign("[") => {
                    self.advance();
                    let key = self.expression(0)?;
                    self.expect("]")?;
                    self.expect("=")?;
                    Some(match key {
                        Value::Text(name) => name,
                        other => other.to_string(),
                    })
                }
                _ => None,
            };
            let value = self.expression(0)?;
            fields.push(Field { line, name, value });
            if !(self.accept(",") || self.accept(";") || self.is(&Token::Sign("}"))) {
                return self.broken(tr!("} is missing"));
            }
        }
        Ok(fields)
    }
}

fn field_of(value: Value, field: &str) -> Value {
    match value {
        Value::Name(name) => Value::Name(format!("{name}.{field}")),
        Value::Table(fields) => {
            let found = fields.into_iter().rev().find(|known| known.name.as_deref() == Some(field));
            found.map_or(Value::Nil, |field| field.value)
        }
        other => Value::Unknown(tr!("the field {field} of {other}", field, other)),
    }
}

fn combined(sign: &str, left: Value, right: Value) -> Value {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (sign, &left, &right) {
        ("..", ..) => {
            if let (Some(left), Some(right)) = (text(&left), text(&right)) {
                return Value::Text(left + &right);
            }
        }
        ("or", Value::Nil | Value::Bool(false), _) => return right,
        ("or", Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Table(_), _) => return left,
        ("and", Value::Nil | Value::Bool(false), _) => return left,
        ("and", Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Table(_), _) => return right,
        (_, Value::Number(left), Value::Number(right)) => {
            let result = match sign {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" => left / right,
                "//" => (left / right).floor(),
                "%" => left - (left / right).floor() * right,
                "^" => left.powf(*right),
                _ => f64::NAN,
            };
            if result.is_finite() {
                return Value::Number(result);
            }
        }
        _ => {}
    }
    let unknown = |value: &Value| matches!(value, Value::Unknown(_) | Value::Call(..) | Value::Name(_));
    let culprit = if unknown(&left) { left } else { right };
    match culprit {
        culprit if unknown(&culprit) => Value::Unknown(culprit.to_string()),
        _ => Value::Unknown(tr!("a \"{sign}\" that is no constant", sign)),
    }
}
