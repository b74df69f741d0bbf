//! The `<deshost>` of the plugin `http`: where a request goes, what it says, and which headers it carries.
//!
//! A secret comes from a file of its own and never shows. The host of a URL is fixed: no file name can change it.

use super::plugins::{Calls, wanted_text};
use super::reading::Reading;
use super::template::Template;
use super::tree::{Attribute, Element};
use super::{Secret, password};
use std::path::{Path, PathBuf};

/// Tells one web server of each path below `watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPlugin {
    /// Absolute.
    pub watch: PathBuf,
    /// The whole URL, from `http://` or `https://` on.
    pub url: Template,
    /// `POST`, `PURGE`, …
    pub method: String,
    /// What the request says.
    pub body: RequestBody,
    /// Headers that every request carries.
    pub headers: Vec<Header>,
    /// How it is called.
    pub calls: Calls,
}

/// What a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// Nothing: the URL says it.
    None,
    /// The form of sersync 2.5.4.
    Form,
    /// A JSON object of our own.
    Json,
    /// A text of the config's.
    Text(Template),
}

/// A header of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, which may hold a password.
    pub value: Secret,
}

/// Reads one `<deshost>`; `None`: it is left out, and why was told.
pub(super) fn read(reading: &mut Reading<'_>, target: &Element, watch: &Path, calls: Calls) -> Option<HttpPlugin> {
    let written = wanted_text(reading, target, "url")?;
    let span = target.attribute("url").map(|attribute| attribute.value_span.clone()).unwrap_or_default();
    let port = match target.attribute("port") {
        Some(_) => Some(reading.port(Some(target), "port")?),
        None => None,
    };
    let mut left_out = |span, what: String, help: String| {
        reading.warn(span, format!("{what}: this <deshost> is left out"), help);
        None
    };
    let url = match whole_url(&written, port) {
        Ok(url) => url,
        Err((what, help)) => return left_out(span, what, help.to_owned()),
    };
    let unknown = |name: String| (format!("{name} stands for nothing"), format!("write one of {}", Template::places()));
    let url = match Template::new(&url).map_err(unknown) {
        Ok(url) => url,
        Err((what, help)) => return left_out(span, what, help),
    };
    let given = |name: &str| target.attribute(name).filter(|attribute| !attribute.value.trim().is_empty());
    let method = given("method").map(|attribute| attribute.value.trim().to_ascii_uppercase());
    if let (Some(method), Some(attribute)) = (&method, given("method"))
        && !is_token(method)
    {
        let what = format!("\"{method}\" is no HTTP method");
        return left_out(attribute.value_span.clone(), what, "such as POST, PUT, PURGE".to_owned());
    }
    let text = match given("body").map(|body| (body, Template::new(&body.value).map_err(unknown))) {
        Some((body, Err((what, help)))) => return left_out(body.value_span.clone(), what, help),
        Some((_, Ok(text))) => Some(text),
        None => None,
    };
    let formats = [("form", RequestBody::Form), ("json", RequestBody::Json), ("none", RequestBody::None)];
    let choices: Vec<(&str, usize)> = formats.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let format = match target.attribute("format") {
        Some(_) => Some(formats[reading.one_of(Some(target), "format", &choices)?].1.clone()),
        None => None,
    };
    let carries_a_body = method.as_deref().is_none_or(|method| matches!(method, "POST" | "PUT" | "PATCH"));
    let body = match (text, format) {
        (Some(text), None) => RequestBody::Text(text),
        (Some(_), Some(_)) => {
            let help = "keep one of them: `format` names a body of ours, `body` is one of yours";
            reading.warn(target.tag.clone(), "`body` and `format` are both given: this <deshost> is left out", help);
            return None;
        }
        (None, Some(format)) => format,
        (None, None) if carries_a_body => RequestBody::Form,
        (None, None) => RequestBody::None,
    };
    if body != RequestBody::None && !carries_a_body {
        let help = "leave `format` and `body` out, or take POST, PUT or PATCH";
        let what = format!("a {} request has no body: this <deshost> is left out", method.unwrap_or_default());
        reading.warn(target.tag.clone(), what, help);
        return None;
    }
    let mut headers = Vec::new();
    for element in target.children("header") {
        // A request without its credentials is worse than none.
        headers.push(header(reading, element)?);
    }
    let method = method.unwrap_or_else(|| "POST".to_owned());
    Some(HttpPlugin { watch: watch.to_path_buf(), url, method, body, headers, calls })
}

/// `written` with a scheme and, unless it names one, `port`.
fn whole_url(written: &str, port: Option<u16>) -> Result<String, (String, &'static str)> {
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("http".to_owned(), written),
    };
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err((format!("\"{scheme}\" is no way to reach a web server"), "write http:// or https://"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err((
            "the URL holds a password".to_owned(),
            "write it into a <header name=\"Authorization\" file=\"…\"/>",
        ));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
    let host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if authority.is_empty() || !authority.bytes().all(host) {
        return Err((format!("\"{authority}\" is no host name"), "{path} and the like stand behind the host"));
    }
    if path.contains('#') || path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return Err((format!("\"{path}\" is no URL"), "percent-encode what is not plain ASCII; leave #… out"));
    }
    let port = port.filter(|_| !has_port).map_or(String::new(), |port| format!(":{port}"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{scheme}://{authority}{port}{slash}{path}"))
}

fn header(reading: &mut Reading<'_>, element: &Element) -> Option<Header> {
    let name = wanted_text(reading, element, "name")?;
    let mut refuse = |attribute: &Attribute, what: String, help: String| {
        reading.warn(attribute.value_span.clone(), format!("{what}: this <deshost> is left out"), help);
        None
    };
    let fixed = ["host", "content-length", "transfer-encoding", "connection"];
    let named = element.attribute("name")?;
    if !is_token(&name) {
        return refuse(named, format!("\"{name}\" is no header's name"), "such as Authorization".to_owned());
    }
    if fixed.iter().any(|fixed| fixed.eq_ignore_ascii_case(&name)) {
        return refuse(named, format!("`{name}` follows from the request"), "leave it out".to_owned());
    }
    let mut value = element.attribute("value").map_or(String::new(), |attribute| attribute.value.clone());
    if let Some(file) = element.attribute("file") {
        let path = Path::new(file.value.trim());
        if !path.is_absolute() {
            return refuse(file, "a relative path".to_owned(), "write the whole path, from `/` on".to_owned());
        }
        match password::read(path) {
            Ok(secret) => value += secret.reveal().trim(),
            Err(error) => return refuse(file, error.to_string(), error.help(path)),
        }
    }
    let at = element.attribute("file").or(element.attribute("value")).unwrap_or(named);
    if value.trim().is_empty() {
        let help = "write value=\"…\", or file=\"…\" for what nobody shall read".to_owned();
        return refuse(at, format!("`{name}` has no value"), help);
    }
    // What ends a header would begin another.
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return refuse(at, format!("the value of `{name}` is not plain ASCII"), "one line of plain text".to_owned());
    }
    Some(Header { name, value: Secret::new(value) })
}

fn is_token(text: &str) -> bool {
    let other = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || other.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host_that_no_name_can_change() {
        let url = |written, port| whole_url(written, port).map_err(|(what, _)| what);
        assert_eq!(url("192.0.2.22/hook", Some(80)).unwrap(), "http://192.0.2.22:80/hook");
        assert_eq!(url("web1", Some(8080)).unwrap(), "http://web1:8080/");
        assert_eq!(url("https://[2001:db8::1]/a?b={path}", Some(444)).unwrap(), "https://[2001:db8::1]:444/a?b={path}");
        assert_eq!(url("https://api.example.org:444/{path}", Some(80)).unwrap(), "https://api.example.org:444/{path}");
        for bad in
            ["ftp://x/", "https://{path}.example.org/", "http://me:pw@x/", "http:///x", "http://x/a b", "http://x/ü"]
        {
            assert!(url(bad, None).is_err(), "{bad}");
        }
    }
}
