//! The plugin `refreshCDN`, as sersync 2.5.4 had it: ChinaCache is asked to fetch a URL anew, by a HEAD request whose
//! answer is a header of its own.

use super::target::{CallError, News};
use super::url;
use crate::config::{Calls, RefreshCdnPlugin};
use crate::filter;
use regex::bytes::Regex;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer that is longer than this before its blank line is none.
const HEAD_AT_MOST: u64 = 16 * 1024;

/// One account.
#[derive(Debug, Clone)]
pub(super) struct RefreshCdn {
    plugin: RefreshCdnPlugin,
    pattern: Option<Regex>,
}

impl PartialEq for RefreshCdn {
    fn eq(&self, other: &Self) -> bool {
        self.plugin == other.plugin
    }
}

impl Eq for RefreshCdn {}

impl RefreshCdn {
    pub fn new(plugin: RefreshCdnPlugin) -> Self {
        // The config compiled it already; one that does not would have been refused there.
        let pattern = plugin.pattern.as_deref().and_then(|pattern| filter::search(pattern).ok());
        Self { plugin, pattern }
    }

    pub fn calls(&self) -> Calls {
        self.plugin.calls
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.plugin.host, self.plugin.port)
    }

    /// The URL at which the CDN knows `absolute`; `None`: it knows no such file.
    pub fn url(&self, absolute: &Path) -> Option<String> {
        let below = absolute.strip_prefix(&self.plugin.watch).ok()?;
        if self.plugin.pattern.is_none() {
            let base = self.plugin.base.trim_end_matches('/');
            return Some(format!("{base}/{}", url::path(below.as_os_str().as_bytes())));
        }
        let bytes = absolute.as_os_str().as_bytes();
        let found = self.pattern.as_ref()?.captures(bytes)?;
        let (whole, group) = (found.get(0)?, found.get(1).map_or(&b""[..], |group| group.as_bytes()));
        let behind = &bytes[whole.end()..];
        Some(format!("{}{}{}", self.plugin.base, url::path(group), url::path(behind)))
    }

    /// The request, byte for byte as 2.5.4 sent it where names are plain.
    fn request(&self, news: &News) -> Option<String> {
        let RefreshCdnPlugin { host, user, password, .. } = &self.plugin;
        let address = url::query_url(&self.url(&news.absolute)?);
        let (user, password) = (url::query_word(user), url::query_word(password.reveal()));
        let what = match news.event.is_directory {
            true => format!("dirs={}/", address.trim_end_matches('/')),
            false => format!("urls={address}"),
        };
        Some(format!("HEAD /index.jsp?user={user}&pswd={password}&ok=ok&{what} HTTP/1.0\r\nHost: {host}\r\n\r\n"))
    }

    pub async fn send(&self, news: &News) -> Result<(), CallError> {
        let Some(request) = self.request(news) else { return Ok(()) };
        let down = |error: std::io::Error| CallError::down(format!("{}: {error}", self.address()));
        let mut stream = TcpStream::connect((self.plugin.host.as_str(), self.plugin.port)).await.map_err(down)?;
        stream.write_all(request.as_bytes()).await.map_err(down)?;
        let mut answer = Vec::new();
        let mut stream = stream.take(HEAD_AT_MOST);
        while !ends_with_blank_line(&answer) {
            if stream.read_buf(&mut answer).await.map_err(down)? == 0 {
                break;
            }
        }
        judge(&answer).map_err(|what| CallError::path(format!("{}: {what}", self.address())))
    }
}

fn ends_with_blank_line(answer: &[u8]) -> bool {
    answer.windows(4).any(|four| four == b"\r\n\r\n") || answer.windows(2).any(|two| two == b"\n\n")
}

/// The header `whatsup` says how it went, whatever the status line says.
fn judge(answer: &[u8]) -> Result<(), String> {
    let answer = String::from_utf8_lossy(answer);
    let mut lines = answer.lines();
    let status = lines.next().unwrap_or_default();
    let headers = lines.take_while(|line| !line.is_empty());
    let verdict =
        headers.filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim().eq_ignore_ascii_case("whatsup"));
    match verdict {
        Some((_, value)) if value.replace(' ', "").contains("content=\"succeed\"") => Ok(()),
        Some((_, value)) => Err(format!("the CDN refused it: {}", value.trim())),
        None if status.is_empty() => Err("the CDN closed the connection without an answer".to_owned()),
        None => Err(format!("the CDN did not say `whatsup`, but: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const FILE: &str = "/data0/htdocs/cms.xoyo.com/site/jx3.xoyo.com/image/a/123.txt";

    fn cdn(pattern: Option<&str>) -> RefreshCdn {
        RefreshCdn::new(RefreshCdnPlugin {
            watch: "/data0/htdocs/cms.xoyo.com/site".into(),
            host: "cdn.example.net".into(),
            port: 80,
            user: "me".into(),
            password: Secret::new("s3&cret".into()),
            base: "http://pic.xoyo.com/cms".into(),
            pattern: pattern.map(str::to_owned),
            calls: Calls::default(),
        })
    }

    #[test]
    fn urls_are_those_that_sersync_documents() {
        let url = |pattern, file: &str| cdn(pattern).url(Path::new(file));
        assert_eq!(url(None, FILE).as_deref(), Some("http://pic.xoyo.com/cms/jx3.xoyo.com/image/a/123.txt"));
        // As it is written there, `images` does not match the file's `image`: the documented result follows without the s.
        let written = "cms.xoyo.com/site([/a-zA-Z0-9]*).xoyo.com/images";
        assert_eq!(url(Some(written), FILE), None);
        let meant = "cms.xoyo.com/site([/a-zA-Z0-9]*).xoyo.com/image";
        assert_eq!(url(Some(meant), FILE).as_deref(), Some("http://pic.xoyo.com/cms/jx3/a/123.txt"));
        let images = FILE.replace("/image/", "/images/");
        assert_eq!(url(Some(written), &images).as_deref(), Some("http://pic.xoyo.com/cms/jx3/a/123.txt"));
        assert_eq!(url(None, "/data0/htdocs/cms.xoyo.com/sites/x"), None);
    }

    #[test]
    fn only_the_header_counts() {
        assert_eq!(judge(b"HTTP/1.0 200 OK\r\nWhatsUp: content=\"succeed\"\r\n\r\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.0 500 no\r\nwhatsup: content = \"succeed\"\r\n\r\n"), Ok(()));
        for bad in [
            "HTTP/1.0 200 OK\r\nwhatsup: content=\"failed\"\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nwhatsup: content=\"succeed\"\r\n",
            "HTTP/1.0 200 OK\r\nx: whatsup: content=\"succeed\"\r\n\r\n",
            "",
        ] {
            assert!(judge(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
