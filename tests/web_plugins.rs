//! The plugins that talk to servers: what goes over the wire, byte for byte, to servers of the tests' own.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::config::Confxml;
use support::listener::{Listener, OK};
use support::plugins::{alone, contains, evil, localpath, put_bytes};
use support::scene::Place;
use support::tree::put;

#[test]
fn socket_sends_the_absolute_path_and_nothing_else() {
    let (place, server) = (Place::new(), Listener::bytes());
    let target = localpath(&place, &format!("<deshost ip=\"{}\" port=\"{}\"/>", server.address.ip(), server.port()));
    let _agent = alone(&place, "socket", "", &target);
    for path in evil(&place.source()) {
        server.wait("the path", |request| request.body == path.as_os_str().as_bytes());
    }
    fs::create_dir(place.path("source/directory")).unwrap();
    let directory = place.path("source/directory");
    server.wait("a directory", |request| request.body == directory.as_os_str().as_bytes());
}

#[test]
fn http_posts_the_form_of_old_with_its_values_encoded() {
    let (place, server) = (Place::new(), Listener::http(|_| OK.to_owned()));
    let host = format!("<deshost url=\"127.0.0.1/hook\" port=\"{}\"/>", server.port());
    let _agent = alone(&place, "http", "", &localpath(&place, &host));
    let root = place.source().display().to_string().replace('/', "%2F");
    put(&place.path("source/dir/a b.txt"), "x");
    let request = server.wait("the form", |request| request.text().contains("a+b.txt"));
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(request.text(), format!("watchroot={root}&isdir=0&inotifyPath={root}%2Fdir%2Fa+b.txt&mask=8"));
    server.wait("the directory", |request| {
        request.text() == format!("watchroot={root}&isdir=1&inotifyPath={root}%2Fdir&mask=1073742080")
    });
    fs::remove_file(place.path("source/dir/a b.txt")).unwrap();
    server.wait("the deletion", |request| request.text().ends_with("a+b.txt&mask=512"));

    evil(&place.source());
    let crlf = server.wait("an evil name", |request| request.text().contains("X-Evil"));
    assert!(crlf.text().contains("a%0D%0AX-Evil%3A+1%0D%0A%0D%0ADELETE"), "{crlf:?}");
    server.wait("bytes that are no text", |request| request.text().contains("%2F%FF%FE%5C%22%7D%5D&mask=8"));
    server
        .wait("a name of a form", |request| request.text().contains("a%26mask%3D9%23frag%3Fq%3D1%2B2%3B%2541&mask=8"));
    for request in server.seen() {
        assert_eq!((request.line.as_str(), request.header("x-evil")), ("POST /hook HTTP/1.1", None));
        assert_eq!(request.text().matches('&').count(), 3, "{request:?}");
    }
}

#[test]
fn http_sends_json_with_headers_and_a_secret_that_nobody_else_sees() {
    let (place, server) = (Place::new(), Listener::http(|_| OK.to_owned()));
    let token = place.path("token");
    fs::write(&token, "t0psecret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let host = format!(
        "<deshost url=\"http://{}/event?who={{instance}}&amp;p={{path}}\" format=\"json\" method=\"put\">\
         <header name=\"Authorization\" value=\"Bearer \" file=\"{}\"/><header name=\"X-Site\" value=\"www\"/></deshost>",
        server.address,
        token.display()
    );
    let file = Confxml::new(&place.source()).plugin("http", "", &localpath(&place, &host)).write(&place.path("c.xml"));
    let agent = place.launch().config(&file).argument("-m").argument("http").argument("--debug").start();
    put(&place.path("source/a&b=1.txt"), "x");
    let request = server.wait("the request", |request| !request.body.is_empty());
    assert_eq!(request.line, "PUT /event?who=c&p=a%26b=1.txt HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer t0psecret"));
    assert_eq!((request.header("x-site"), request.header("content-type")), (Some("www"), Some("application/json")));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let expected = serde_json::json!({
        "instance": "c", "root": place.source(), "path": place.path("source/a&b=1.txt"),
        "event": "CLOSE_WRITE", "mask": 8, "isdir": false, "remotes": [],
    });
    assert_eq!(body, expected);
    let odd = put_bytes(&place.source(), b"\xff\"");
    let bytes = server.wait("a name that is no text", |request| request.text().contains("path_hex"));
    let body: serde_json::Value = serde_json::from_slice(&bytes.body).unwrap();
    let hex: String = odd.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body["path_hex"], hex.as_str());
    assert!(!agent.log().contains("t0psecret"), "{}", agent.log());
    for process in agent.children().iter().chain([&agent.process()]) {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        assert!(!contains(&line, b"t0psecret"));
    }
}

/// The examples of docs/plugins.md, with a server of the test's own in place of the CDN's.
#[test]
fn the_documented_purge_calls_are_what_the_cdns_want() {
    let docs = include_str!("../docs/plugins.md");
    let example = |heading: &str, host: &str, server: &Listener, place: &Place, token: &Path| -> String {
        let text = docs.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading:?}"));
        let xml = text.split("```xml\n").nth(1).unwrap().split("```").next().unwrap();
        assert!(xml.contains(host), "{xml}");
        let inner = xml.split_once("<plugin name=\"http\"").unwrap().1.split_once('>').unwrap().1;
        let inner = inner.split("</plugin>").next().unwrap();
        let file = xml.split("file=\"").nth(1).unwrap().split('"').next().unwrap();
        inner
            .replace(&format!("https://{host}"), &format!("http://{}", server.address))
            .replace("/data/www", &place.source().display().to_string())
            .replace(file, &token.display().to_string())
    };
    let place = Place::new();
    let token = place.path("token");
    fs::write(&token, "t0ken").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();

    let cloudflare = Listener::http(|_| OK.to_owned());
    let inner = example("### Cloudflare", "api.cloudflare.com", &cloudflare, &place, &token);
    let agent = alone(&place, "http", "", &inner);
    put(&place.path("source/img/a \"b\".png"), "x");
    let request = cloudflare.wait("the purge", |request| request.text().contains(".png"));
    let (method, rest) = request.line.split_once(' ').unwrap();
    assert!(method == "POST" && rest.starts_with("/client/v4/zones/") && rest.contains("/purge_cache "), "{rest}");
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, serde_json::json!({"files": ["https://www.example.org/img/a%20%22b%22.png"]}));
    drop(agent);

    let fastly = Listener::http(|_| OK.to_owned());
    let inner = example("### Fastly", "www.example.org", &fastly, &place, &token);
    let _agent = alone(&place, "http", "", &inner);
    evil(&place.source());
    let request = fastly.wait("the purge", |request| request.line.contains("X-Evil"));
    assert_eq!(request.line, "PURGE /a%0D%0AX-Evil:%201%0D%0A%0D%0ADELETE%20|%20HTTP|1.1 HTTP/1.1");
    assert_eq!((request.header("fastly-key"), request.header("x-evil")), (Some("t0ken"), None));
    assert!(request.body.is_empty());
}

#[test]
fn refresh_cdn_sends_the_request_of_old_and_heeds_whatsup() {
    let refuse = |request: &support::listener::Request| {
        let verdict = if request.line.contains("refused") { "failed" } else { "succeed" };
        format!("HTTP/1.0 200 OK\r\nWhatsUp: content=\"{verdict}\"\r\n\r\n")
    };
    let (place, server) = (Place::new(), Listener::http(refuse));
    let inner = format!(
        "<cdninfo domainname=\"127.0.0.1\" port=\"{}\" username=\"me\" passwd=\"p&amp;w\"/>\
         <sendurl base=\"http://pic.example.org/cms\"/>",
        server.port()
    );
    let agent = alone(&place, "refreshCDN", "retries=\"0\"", &localpath(&place, &inner));
    put(&place.path("source/jx3.example.org/a/123.txt"), "x");
    let file = server.wait("the file", |request| request.line.contains("123.txt"));
    assert_eq!(
        file.line,
        "HEAD /index.jsp?user=me&pswd=p%26w&ok=ok&urls=http://pic.example.org/cms/jx3.example.org/a/123.txt HTTP/1.0"
    );
    assert_eq!(file.headers, [("Host".to_owned(), "127.0.0.1".to_owned())]);
    server.wait("the directory", |request| {
        request.line
            == "HEAD /index.jsp?user=me&pswd=p%26w&ok=ok&dirs=http://pic.example.org/cms/jx3.example.org/a/ HTTP/1.0"
    });
    evil(&place.source());
    let crlf = server.wait("an evil name", |request| request.line.contains("X-Evil"));
    assert!(crlf.line.ends_with(" HTTP/1.0") && crlf.line.contains("a%250D%250AX-Evil:%25201"), "{crlf:?}");
    assert!(server.seen().iter().all(|request| request.headers.len() == 1));
    let amp = server.wait("a name of a query", |request| request.line.contains("frag"));
    assert_eq!(amp.line.matches('&').count(), 3, "{amp:?}");
    put(&place.path("source/refused"), "x");
    agent.wait_logged("the CDN refused it: content=\"failed\"");
    assert!(!agent.log().contains("p&w") && !agent.log().contains("p%26w"), "{}", agent.log());
}

#[test]
fn tls_trusts_the_systems_certificates_and_no_others() {
    let place = Place::new();
    let Some(config) = server_certificate(&place) else { return support::skip("openssl is not installed") };
    let server = Listener::https(config, |_| OK.to_owned());
    let host = format!("<deshost url=\"https://localhost:{}/{{path}}\" method=\"PURGE\"/>", server.port());
    let file = Confxml::new(&place.source()).plugin("http", "", &localpath(&place, &host)).write(&place.path("c.xml"));
    let launch = place.launch().config(&file).argument("-m").argument("http");
    let trusting = launch.clone().environment("SSL_CERT_FILE", place.path("ca.pem")).start();
    put(&place.path("source/file"), "x");
    server.wait("the request", |request| request.line == "PURGE /file HTTP/1.1");
    drop(trusting);
    let seen = server.seen().len();
    let other = place.path("other.pem");
    fs::copy(place.path("other-ca.pem"), &other).unwrap();
    let doubting = launch.environment("SSL_CERT_FILE", &other).start();
    put(&place.path("source/second"), "x");
    doubting.wait_logged("certificate");
    assert_eq!(server.seen().len(), seen, "a server that nobody vouches for heard of a path");
}

/// Two authorities, and a server's certificate by the first.
fn server_certificate(place: &Place) -> Option<std::sync::Arc<rustls::ServerConfig>> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let at = |name: &str| place.path(name).display().to_string();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(())
    };
    for (key, certificate) in [("ca.key", "ca.pem"), ("other-ca.key", "other-ca.pem")] {
        let (key, certificate) = (at(key), at(certificate));
        let options =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        openssl(&[&options[..], &["-subj", "/CN=test", "-keyout", &key, "-out", &certificate]].concat())?;
    }
    let (key, request, certificate) = (at("server.key"), at("server.csr"), at("server.pem"));
    let options = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(&[&options[..], &["-subj", "/CN=localhost", "-keyout", &key, "-out", &request]].concat())?;
    fs::write(place.path("extensions"), "subjectAltName=DNS:localhost\n").unwrap();
    let (ca, ca_key, extensions) = (at("ca.pem"), at("ca.key"), at("extensions"));
    let options = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
    openssl(&[&options[..], &["-extfile", &extensions, "-out", &certificate]].concat())?;
    let chain = vec![CertificateDer::from_pem_file(&certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Some(std::sync::Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}
