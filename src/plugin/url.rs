//! Names as parts of URLs, queries and forms: any bytes, and nothing that could end the part it stands in.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};

/// What browsers encode in the path of a URL, and what would mean something else there: a CDN knows a file by the URL
/// that browsers ask for.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What would end or change a value in a query.
const QUERY: &AsciiSet = &PATH.add(b'&').add(b'+').add(b';');

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// A path, its slashes kept.
pub(super) fn path(bytes: &[u8]) -> String {
    percent_encode(bytes, PATH).to_string()
}

/// A path as the value in a query.
pub(super) fn query(bytes: &[u8]) -> String {
    percent_encode(bytes, QUERY).to_string()
}

/// A whole URL as the value in another's query.
pub(super) fn query_url(url: &str) -> String {
    percent_encode(url.as_bytes(), QUERY).to_string().replace('?', "%3F")
}

/// A word, such as a password, as the value in a query.
pub(super) fn query_word(word: &str) -> String {
    percent_encode(word.as_bytes(), UNRESERVED).to_string()
}

/// A value in a form (`application/x-www-form-urlencoded`).
pub(super) fn form(bytes: &[u8]) -> String {
    percent_encode(bytes, FORM).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        let evil = b"a b\r\nHost: x\"<>#?&+%;'$(id)`\xff\xe5\x9b\xbe";
        assert_eq!(path(b"a/b-c_d.(1).txt"), "a/b-c_d.(1).txt");
        assert_eq!(path(evil), "a%20b%0D%0AHost:%20x%22%3C%3E%23%3F&+%25;'$(id)%60%FF%E5%9B%BE");
        assert_eq!(query_url(&path(b"a b&c")), "a%2520b%26c");
        assert_eq!(query_url("http://x/a?b"), "http://x/a%3Fb");
        assert_eq!(form(evil), "a+b%0D%0AHost%3A+x%22%3C%3E%23%3F%26%2B%25%3B%27%24%28id%29%60%FF%E5%9B%BE");
        assert_eq!(query_word("p&w=\r\n"), "p%26w%3D%0D%0A");
    }
}
