//! Servers for plugins to talk to: one that takes bytes, one that takes HTTP requests, with TLS or without. Each has a
//! free loopback port and threads of its own, and ends with its value.

use super::{SOON, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What one connection brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `POST /hook HTTP/1.1`; empty where no HTTP is spoken.
    pub line: String,
    /// As they came.
    pub headers: Vec<(String, String)>,
    /// The body, or all bytes.
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Answer = Box<dyn Fn(&Request) -> String + Send + Sync>;

/// A server of the test's own.
pub struct Listener {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Takes all bytes of each connection, and answers nothing.
    pub fn bytes() -> Self {
        // An address of its own, so that nobody else can be in its place when it is gone.
        let address = std::net::Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        Self::bytes_at((address, 0).into())
    }

    /// The same in the place of one that is gone.
    pub fn bytes_at(address: SocketAddr) -> Self {
        Self::start(TcpListener::bind(address).unwrap(), |stream, seen| {
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body);
            seen.lock().unwrap().push(Request { body, ..Request::default() });
        })
    }

    /// Takes one HTTP request of each connection, and sends back what `answer` says, word for word.
    pub fn http(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        let answer: Answer = Box::new(answer);
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), move |stream, seen| serve(stream, seen, &answer))
    }

    /// The same with TLS.
    pub fn https(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(&Request) -> String + Send + Sync + 'static,
    ) -> Self {
        let answer: Answer = Box::new(answer);
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), move |stream, seen| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            serve(&mut rustls::StreamOwned::new(connection, stream), seen, &answer);
        })
    }

    fn start(
        listener: TcpListener,
        serve: impl Fn(&mut TcpStream, &Mutex<Vec<Request>>) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (written, stopped, serve) = (seen.clone(), stop.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (written, serve) = (written.clone(), serve.clone());
                let Ok(mut stream) = stream else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                std::thread::spawn(move || serve(&mut stream, &written));
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until something came of which `wanted` holds, and returns it.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Request) -> bool) -> Request {
        eventually(what, SOON, || {
            let seen = self.seen();
            seen.iter().find(|request| wanted(request)).cloned().ok_or_else(|| format!("it saw {seen:?}"))
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: &mut (impl Read + Write), seen: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut reader = BufReader::new(stream);
    let mut request = Request::default();
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    request.line = line.trim_end().to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim_end().is_empty() {
            break;
        }
        let (name, value) = line.trim_end().split_once(':').unwrap_or((line.trim_end(), ""));
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    if reader.read_exact(&mut request.body).is_err() {
        return;
    }
    let answer = answer(&request);
    seen.lock().unwrap().push(request);
    let stream = reader.into_inner();
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

/// The answer that most tests give.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
