//! The plugin `http`: one request for each path, to any web server, by the form of sersync 2.5.4, by JSON, or as a CDN
//! wants its purge calls.
//!
//! Requests are made on threads of their own with a time limit. TLS trusts the certificates of the system. Redirections
//! are not followed: a header may hold a secret that is for one host.

use super::target::{CallError, News};
use super::url;
use crate::aside::aside;
use crate::config::{Calls, HttpPlugin, RequestBody, TemplatePlace};
use crate::human::safe;
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// So much of an answer is read, and so much of it told.
const ANSWER_AT_MOST: u64 = 16 * 1024;
const TOLD_AT_MOST: usize = 200;

/// What a request may take longer than its limit before it is given up from outside.
const GRACE: Duration = Duration::from_secs(5);

/// One `<deshost>`.
#[derive(Debug, Clone)]
pub(super) struct Http {
    plugin: Arc<HttpPlugin>,
    /// Made by the first request: it may have to read all certificates.
    client: Arc<OnceLock<ureq::Agent>>,
}

impl PartialEq for Http {
    fn eq(&self, other: &Self) -> bool {
        self.plugin == other.plugin
    }
}

impl Eq for Http {}

impl Http {
    pub fn new(plugin: HttpPlugin) -> Self {
        Self { plugin: Arc::new(plugin), client: Arc::default() }
    }

    pub fn calls(&self) -> Calls {
        self.plugin.calls
    }

    pub fn watch(&self) -> &Path {
        &self.plugin.watch
    }

    /// Without the query, which may hold what is not for everybody.
    pub fn address(&self) -> String {
        let url = self.plugin.url.to_string();
        format!("{} {}", self.plugin.method, url.split('?').next().unwrap_or_default())
    }

    pub async fn send(&self, news: News, instance: &str) -> Result<(), CallError> {
        let (http, instance) = (self.clone(), instance.to_owned());
        let calling = aside(move || http.call(&news, &instance));
        match tokio::time::timeout(self.plugin.calls.timeout + GRACE, calling).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(CallError::aside(&self.address(), &error)),
            Err(_) => Err(CallError::down(format!("{}: no answer in time", self.address()))),
        }
    }

    fn call(&self, news: &News, instance: &str) -> Result<(), CallError> {
        let request =
            self.request(news, instance).map_err(|error| CallError::path(format!("{}: {error}", self.address())))?;
        let down = |error: ureq::Error| CallError::down(format!("{}: {}", self.address(), safe(&error.to_string())));
        let mut answer = self.client.get_or_init(|| self.make_client()).run(request).map_err(down)?;
        let status = answer.status();
        let mut said = Vec::new();
        // What it says besides the status is for people: as much as can be read.
        let _ = answer.body_mut().as_reader().take(ANSWER_AT_MOST).read_to_end(&mut said);
        self.judge(status, &String::from_utf8_lossy(&said))
    }

    /// Whether an answer means that it is done, and if not, who is to blame.
    fn judge(&self, status: StatusCode, said: &str) -> Result<(), CallError> {
        let was_not_there = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        if status.is_success() || was_not_there && self.plugin.method == "PURGE" {
            return Ok(());
        }
        let said: String = safe(said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim())
            .chars()
            .take(TOLD_AT_MOST)
            .collect();
        let separator = if said.is_empty() { "" } else { ": " };
        let message = format!("{}: {status}{separator}{said}", self.address());
        let is_about_all = status.is_server_error()
            || status.is_redirection()
            || matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::PAYMENT_REQUIRED
                    | StatusCode::FORBIDDEN
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_MANY_REQUESTS
            );
        Err(if is_about_all { CallError::down(message) } else { CallError::path(message) })
    }

    fn request(&self, news: &News, instance: &str) -> Result<Request<Vec<u8>>, ureq::http::Error> {
        let below = news.absolute.strip_prefix(&self.plugin.watch).unwrap_or(&news.absolute);
        let below = below.as_os_str().as_bytes();
        let value = |place, path: &dyn Fn(&[u8]) -> String| match place {
            TemplatePlace::Path => path(below),
            TemplatePlace::Event => news.event.words().to_owned(),
            TemplatePlace::Mask => news.event.mask().to_string(),
            TemplatePlace::IsDir => u8::from(news.event.is_directory).to_string(),
            TemplatePlace::Instance => url::query_word(instance),
        };
        let address = self.plugin.url.fill(|place, before| match before.contains('?') {
            true => value(place, &url::query),
            false => value(place, &url::path),
        });
        let mut request = Request::builder().method(Method::from_bytes(self.plugin.method.as_bytes())?).uri(address);
        let own = |name: &str| self.plugin.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let is_form = own("content-type").is_some_and(|header| header.value.reveal().contains("form-urlencoded"));
        let (kind, body) = match &self.plugin.body {
            RequestBody::None => ("", Vec::new()),
            RequestBody::Form => ("application/x-www-form-urlencoded", self.form(news).into_bytes()),
            RequestBody::Json => ("application/json", json(news, instance).to_string().into_bytes()),
            RequestBody::Text(text) => {
                let path = |bytes: &[u8]| match is_form {
                    true => url::form(url::path(bytes).as_bytes()),
                    false => url::path(bytes),
                };
                ("application/json", text.fill(|place, _| value(place, &path)).into_bytes())
            }
        };
        if !kind.is_empty() && own("content-type").is_none() {
            request = request.header("Content-Type", kind);
        }
        for header in &self.plugin.headers {
            request = request.header(&header.name, header.value.reveal());
        }
        request.body(body)
    }

    /// The form of sersync 2.5.4, its values encoded.
    fn form(&self, news: &News) -> String {
        format!(
            "watchroot={}&isdir={}&inotifyPath={}&mask={}",
            url::form(self.plugin.watch.as_os_str().as_bytes()),
            u8::from(news.event.is_directory),
            url::form(news.absolute.as_os_str().as_bytes()),
            news.event.mask()
        )
    }

    fn make_client(&self) -> ureq::Agent {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(self.plugin.calls.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .proxy(None)
            .max_idle_connections(self.plugin.calls.concurrency)
            .user_agent(concat!("sersync/", env!("CARGO_PKG_VERSION")));
        if self.plugin.url.to_string().starts_with("https:") {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                tracing::error!(
                    "no certificate of the system can be read: install ca-certificates. {}",
                    errors.join("; ")
                );
            }
            let certificates: Vec<_> =
                found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&certificates))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
            config = config.tls_config(tls.build());
        }
        config.build().new_agent()
    }
}

/// The body of `format="json"`.
fn json(news: &News, instance: &str) -> Value {
    let remotes: Vec<&str> = news.remotes.iter().map(AsRef::as_ref).collect();
    let mut object = json!({
        "instance": instance,
        "event": news.event.words(),
        "mask": news.event.mask(),
        "isdir": news.event.is_directory,
        "remotes": remotes,
    });
    for (key, path) in [("root", &*news.place.root), ("path", &news.absolute)] {
        object[key] = path.to_string_lossy().into_owned().into();
        // Where text loses something, the bytes are there too.
        if path.to_str().is_none() {
            let hex: String = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            object[format!("{key}_hex")] = hex.into();
        }
    }
    object
}
