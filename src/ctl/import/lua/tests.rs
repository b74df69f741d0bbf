//! What Lua says is what is read.

use super::*;
use proptest::prelude::*;

fn fields(text: &str) -> Vec<Field> {
    match read(text).pop() {
        Some(Item::Sync(_, fields)) => fields,
        other => panic!("{text}: {other:?}"),
    }
}

fn value(expression: &str) -> Value {
    fields(&format!("local base, n = '/srv/', 2\nlocal t = {{ host = \"h\" }}\nsync{{ x = {expression} }}"))
        .remove(0)
        .value
}

#[test]
fn constants_are_what_lua_makes_of_them() {
    let text = |text: &str| Value::Text(text.to_owned());
    for (expression, expected) in [
        ("base .. 'www' .. n", text("/srv/www2")),
        ("t.host .. \"::m\"", text("h::m")),
        ("[[a\\b]]", text("a\\b")),
        ("[==[\n]]]==]", text("]]")),
        ("'\\65\\x42\\u{56fe}\\z  \n c\\''", text("AB图c'")),
        ("1 + 2 * 3 ^ 2 - -1", Value::Number(20.0)),
        ("0x10 // 3 % 4", Value::Number(1.0)),
        ("nil or 'a'", text("a")),
        ("not true", Value::Bool(false)),
        ("default.rsync", Value::Name("default.rsync".to_owned())),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
    for unknown in
        ["os.getenv('HOME') .. '/x'", "function(a) if a then return end end", "#t", "t:get(1)", "1 < 2", "1/0"]
    {
        assert!(matches!(value(unknown), Value::Unknown(_)), "{unknown}: {:?}", value(unknown));
    }
}

#[test]
fn what_is_not_declared_is_skipped_with_its_line() {
    let text = "--[[ a\ncomment ]] -- another\nfor _, h in ipairs(hosts) do\n sync{ default.rsync, target = h }\nend\n\
                function f(x) while x do x = g(x) end end\nprint('x')\nrepeat local a = 1 until a == 1\n\
                if f() then base = '/b' else base = '/c' end\nsync{ source = base };\nt.x = 1";
    let items = read(text);
    let lines: Vec<usize> =
        items.iter().filter_map(|item| if let Item::Skipped(line, _) = item { Some(*line) } else { None }).collect();
    assert_eq!(lines, [3, 6, 7, 8, 9, 11], "{items:?}");
    assert!(matches!(&items[0], Item::Skipped(3, what) if what.contains("write each sync")));
    let found = items.iter().find_map(|item| if let Item::Sync(10, fields) = item { fields.first() } else { None });
    assert!(matches!(found, Some(Field { value: Value::Unknown(what), .. }) if what.contains("line 9")), "{items:?}");
}

#[test]
fn what_is_no_lua_ends_with_its_line() {
    for (text, line) in
        [("sync{\n source = \n}", 3), ("x = 'a\n'", 1), ("\n\nsync{ a = }", 3), ("if x then", 1), ("a b", 1)]
    {
        assert!(matches!(read(text).last(), Some(Item::Skipped(at, _)) if *at == line), "{text}: {:?}", read(text));
    }
    assert!(matches!(read(&"sync{".repeat(5000)).last(), Some(Item::Skipped(..))));
    assert!(matches!(read(&format!("x = {}", "(".repeat(5000))).last(), Some(Item::Skipped(..))));
}

/// Pieces of Lua, whole and broken.
const PIECES: &[&str] = &[
    "sync",
    "settings",
    "default.rsync",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "[[",
    "]]",
    "=",
    ",",
    ";",
    ".",
    "..",
    ":",
    "::",
    "\"",
    "'",
    "\\",
    "\n",
    "--",
    "--[[",
    "--[==[",
    "x",
    "x.y",
    "1",
    "0x",
    "1e",
    ".5",
    "nil",
    "true",
    "not",
    "-",
    "#",
    "and",
    "or",
    "^",
    "function",
    "end",
    "if",
    "then",
    "for",
    "do",
    "while",
    "repeat",
    "until",
    "local",
    "return",
    "图",
    "\u{feff}",
];

proptest! {
    #[test]
    fn any_order_of_pieces_gets_an_answer(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        read(&pieces.join(" "));
        read(&pieces.concat());
    }
}
