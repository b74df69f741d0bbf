//! Files that no person writes: however large and odd, reading one ends soon and what is told of it is short. Most were
//! found by `cargo fuzz`; each is the smallest shape that did harm, made long.

use super::*;
use std::sync::mpsc;

/// What takes moments when it is linear takes hours at this length when it is not.
const LONG: usize = 512 * 1024;

/// What is told of `file`.
fn told(file: String) -> Vec<Mistake> {
    let (told, telling) = mpsc::channel();
    std::thread::spawn(move || {
        let mistakes = match parse(file.as_bytes(), Path::new("x.xml")) {
            Ok(loaded) => loaded.warnings,
            Err(mistakes) => mistakes.0,
        };
        told.send(mistakes)
    });
    let told = telling.recv_timeout(Duration::from_secs(120)).expect("it is read in time");
    let length: usize = told.iter().map(|mistake| mistake.to_string().len()).sum();
    assert!(length < LONG, "{length} bytes are told");
    told
}

/// `repeated` between `start` and `end`, up to the full length.
fn long(start: &str, repeated: &str, end: &str) -> String {
    [start, &repeated.repeat(LONG / repeated.len()), end].concat()
}

fn says(told: &[Mistake], words: &str) -> bool {
    told.iter().any(|mistake| mistake.message.contains(words))
}

#[test]
fn secrets_are_blotted_out_in_one_pass() {
    told(long("<head ", "pass=", "/>"));
    told(long("<head ", "pass", "/>"));
    told(long("<head ", "://@", "/>"));
}

#[test]
fn attributes_are_not_compared_without_end() {
    let attributes: String = (0..LONG / 10).map(|number| format!(" a{number}=\"\"")).collect();
    assert!(says(&told(format!("<head{attributes}/>")), "too many attributes"));
}

#[test]
fn elements_have_a_limit() {
    let told = told(long("<head>", "<a/>", "</head>"));
    assert!(says(&told, "500 mistakes") || says(&told, "elements"), "{:?}", told.last());
    let nested = long("<head><filter start=\"true\">", "<exclude expression=\"a\"/>", "</filter></head>");
    assert!(says(&self::told(nested), "more than 20000 elements"));
}

#[test]
fn lookalikes_are_found_in_one_pass() {
    for repeated in ["b=“c” ", "“", "＝", "\u{a0}", "b=\"c” ", "’\n", "<!—— a "] {
        told(long("<head ", repeated, "/>"));
    }
}

#[test]
fn a_long_name_is_not_told_again_and_again() {
    let name = "n".repeat(LONG);
    told(format!("<head><{name}>{}", "</b>".repeat(1000)));
    told(format!("<head><{name} a='b'/></head>"));
    told(format!("<head {name}='b'/>"));
}

#[test]
fn syntax_errors_end_the_reading() {
    for repeated in ["<a b=\"", "<", "<!", "<![CDATA[", "<a '>", "<a b=\">", "&", "]]>", "<?", "<a\n"] {
        told(long("", repeated, ""));
    }
}

#[test]
fn expressions_have_an_allowance() {
    let large = "<exclude expression=\"\\w{90}[a-z]+x\"/>".repeat(30);
    let told = told(format!("<head><filter start=\"true\">{large}</filter></head>"));
    assert!(says(&told, "too large once compiled"), "{told:?}");
}

#[test]
fn patterns_of_full_syncs_have_the_same_allowance_and_are_compiled_once() {
    let crontab = |patterns: &str| {
        format!(
            "<head><sersync><crontab start=\"true\"><crontabfilter start=\"true\">{patterns}</crontabfilter></crontab>\
             </sersync></head>"
        )
    };
    let large = "<exclude expression=\"\\w{90}[a-z]+x\"/>".repeat(30);
    let told_of_large = told(crontab(&large));
    assert!(says(&told_of_large, "too large once compiled"), "{told_of_large:?}");
    // One by one, each with all before it, these take minutes.
    let start = std::time::Instant::now();
    let many: String = (0..1000).map(|number| format!("<exclude expression=\"*.{number}[a-z]*x\"/>")).collect();
    assert!(!says(&told(crontab(&many)), "too large"));
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn what_is_told_stays_on_its_line() {
    let told = told("<head><debug start=\"a&#10;b&#27;[2J\"/></head>".to_owned());
    assert!(says(&told, "\"a\u{fffd}b\u{fffd}[2J\""), "{told:?}");
    assert!(told.iter().all(|mistake| !mistake.message.contains(char::is_control)));
}

#[test]
fn a_list_of_patterns_is_a_plain_file() {
    for (file, words) in [("/dev/zero", "not a regular file"), ("/nowhere/at/all", "No such file")] {
        let exclude = format!("<head><filter start=\"true\"><exclude file=\"{file}\"/></filter></head>");
        assert!(says(&told(exclude), words), "{file}");
    }
}
