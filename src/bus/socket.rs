//! The connection to the bus, which refuses long messages before they are in memory.
//!
//! A message bus delivers messages of up to 32 MiB from any local user, and zbus reads a message as a whole before it
//! looks at the sender. So [`Reader`] follows the byte stream: it skips a message that is longer than any that the agent
//! expects, and notes the caller, who gets [`Error::TooLarge`]. It also lets the engine run between two messages.
//!
//! Descriptors are not accepted: no method takes one.

use super::Which;
use super::error::Error;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};
use zbus::{Address, Connection, Message, OwnedVariant};

/// Maximum length of the body of a method call or a signal, in bytes.
pub const LONGEST_CALL: u64 = 64 << 10;

/// Maximum length of the body of an answer to a call of the agent, in bytes. The longest one lists the names on the bus.
const LONGEST_ANSWER: u64 = 4 << 20;

/// Maximum length of the header fields of a message, in bytes.
const LONGEST_FIELDS: u64 = 64 << 10;

/// Refused calls that wait for their answer. Further ones get none.
const REFUSALS: usize = 64;

/// A method call that was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    sender: String,
    serial: NonZeroU32,
    length: u64,
}

impl Refused {
    /// Answers the caller.
    pub async fn answer(self, bus: &Connection) -> zbus::Result<()> {
        let Self { sender, serial, length } = self;
        // A stand-in with the two header fields that an answer needs.
        let call = Message::method_call("/", "Refused").sender(sender).serial(serial).build(&())?;
        let error = Error::TooLarge(format!(
            "the message has a body of {length} bytes, and at most {LONGEST_CALL} are read: name fewer remotes in a call"
        ));
        bus.reply_dbus_error(&call.header(), error).await
    }
}

/// The calls that were not read, in their order.
pub(super) type Refusals = mpsc::Receiver<Refused>;

/// Connects to `which`. For an address without a socket of the file system or of the abstract name space, such as a TCP
/// address, the limits do not apply: only tests and remote debugging use one.
pub(super) async fn builder(which: &Which) -> zbus::Result<(Builder<'static>, Refusals)> {
    let (sender, refusals) = mpsc::channel(REFUSALS);
    let address = match which {
        Which::System => Address::system()?,
        Which::Session => Address::session()?,
        Which::Address(address) => address.parse()?,
    };
    let path = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => Some(path.clone()),
            UnixSocket::Abstract(name) => {
                let name = [b"\0", name.as_encoded_bytes()].concat();
                Some(PathBuf::from(OsString::from_vec(name)))
            }
            _ => None,
        },
        _ => None,
    };
    let Some(path) = path else { return Ok((Builder::address(address), refusals)) };
    let stream = UnixStream::connect(path).await?;
    Ok((Builder::socket(Stream { stream, refused: sender }), refusals))
}

struct Stream {
    stream: UnixStream,
    refused: mpsc::Sender<Refused>,
}

impl Socket for Stream {
    type ReadHalf = Reader<OwnedReadHalf>;
    type WriteHalf = Writer;

    fn split(self) -> Split<Self::ReadHalf, Self::WriteHalf> {
        let (reader, writer) = self.stream.into_split();
        Split::new(Reader::new(reader, self.refused), Writer(writer))
    }
}

/// The part of the stream that the next byte belongs to.
#[derive(Debug, Clone, Copy)]
enum At {
    /// The start of a line of the handshake, or of the first message.
    Handshake,
    /// A line of the handshake.
    Line,
    /// The start of a message.
    Message,
    /// The rest of a message that is read, with its length in bytes.
    Rest(u64),
}

/// The first bytes of every message: byte order, type, flags, version, and the lengths.
const PRIMARY: usize = 16;

/// The half that zbus reads from.
#[derive(Debug)]
struct Reader<R> {
    stream: R,
    refused: mpsc::Sender<Refused>,
    at: At,
    primary: [u8; PRIMARY],
    /// Bytes of `primary` that zbus has not taken yet.
    waiting: usize,
}

impl<R: tokio::io::AsyncRead + Unpin> Reader<R> {
    fn new(stream: R, refused: mpsc::Sender<Refused>) -> Self {
        Self { stream, refused, at: At::Handshake, primary: [0; PRIMARY], waiting: 0 }
    }

    /// Reads what zbus may see next: of a message, never more than zbus has asked for.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.waiting > 0 {
                let taken = self.waiting.min(buffer.len());
                let start = PRIMARY - self.waiting;
                buffer[..taken].copy_from_slice(&self.primary[start..start + taken]);
                self.waiting -= taken;
                return Ok(taken);
            }
            match self.at {
                // Byte by byte: the first message follows the handshake without a gap. A line begins with a capital
                // letter, and a little-endian message with `l`; no line of a server begins with a big-endian one's `B`.
                At::Handshake | At::Line => {
                    let read = self.stream.read(&mut buffer[..1]).await?;
                    if read == 0 {
                        return Ok(0);
                    }
                    if matches!(self.at, At::Handshake) && matches!(buffer[0], b'l' | b'B') {
                        self.primary[0] = buffer[0];
                        self.stream.read_exact(&mut self.primary[1..]).await?;
                        self.begin().await?;
                        continue;
                    }
                    self.at = if buffer[0] == b'\n' { At::Handshake } else { At::Line };
                    return Ok(1);
                }
                At::Message => {
                    // A caller that sends one message after the other does not keep the thread from others.
                    tokio::task::yield_now().await;
                    let first = self.stream.read(&mut self.primary).await?;
                    if first == 0 {
                        return Ok(0);
                    }
                    self.stream.read_exact(&mut self.primary[first..]).await?;
                    self.begin().await?;
                }
                At::Rest(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let read = self.stream.read(&mut buffer[..most]).await?;
                    let left = left - read as u64;
                    self.at = if left == 0 { At::Message } else { At::Rest(left) };
                    return Ok(read);
                }
            }
        }
    }

    /// Decides about the message whose first bytes are in `primary`: lets zbus have it, or skips it.
    async fn begin(&mut self) -> io::Result<()> {
        let endian = if self.primary[0] == b'B' { Endian::Big } else { Endian::Little };
        let number = |at: usize| {
            let bytes = [0, 1, 2, 3].map(|next| self.primary[at + next]);
            if endian == Endian::Big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        let (kind, body, serial, fields) = (self.primary[1], u64::from(number(4)), number(8), u64::from(number(12)));
        let padded = fields.next_multiple_of(8);
        let longest = if matches!(kind, METHOD_CALL | SIGNAL) { LONGEST_CALL } else { LONGEST_ANSWER };
        if fields <= LONGEST_FIELDS && body <= longest {
            self.waiting = PRIMARY;
            self.at = if padded + body == 0 { At::Message } else { At::Rest(padded + body) };
            return Ok(());
        }
        self.at = At::Message;
        if fields > LONGEST_FIELDS {
            tracing::debug!(fields, "a message on the bus was skipped: its header is too long");
            return skip(&mut self.stream, padded + body).await;
        }
        let mut header = self.primary[12..].to_vec();
        header.resize(4 + fields as usize, 0);
        self.stream.read_exact(&mut header[4..]).await?;
        skip(&mut self.stream, padded - fields + body).await?;
        tracing::debug!(kind, body, "a message on the bus was skipped: it is too long");
        if let (METHOD_CALL, Some(sender), Some(serial)) = (kind, sender(header, endian), NonZeroU32::new(serial)) {
            // With this many unanswered ones, it is an attack.
            let _ = self.refused.try_send(Refused { sender, serial, length: body });
        }
        Ok(())
    }
}

/// Types of messages in D-Bus.
const METHOD_CALL: u8 = 1;
const SIGNAL: u8 = 4;

/// The header field with the name of the sender.
const SENDER: u8 = 7;

/// The sender in `fields`, which begin with their length.
fn sender(fields: Vec<u8>, endian: Endian) -> Option<String> {
    let fields = Data::new(fields, Context::new(endian, PRIMARY - 4));
    let (fields, _): (Vec<(u8, OwnedVariant)>, _) = fields.deserialize().ok()?;
    let (_, sender) = fields.into_iter().find(|(code, _)| *code == SENDER)?;
    sender.try_into().ok()
}

/// Reads `length` bytes of the stream into nowhere.
async fn skip(stream: &mut (impl tokio::io::AsyncRead + Unpin), length: u64) -> io::Result<()> {
    let skipped =
        tokio::io::copy_buf(&mut tokio::io::BufReader::new(stream.take(length)), &mut tokio::io::sink()).await?;
    if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[async_trait]
impl ReadHalf for Reader<OwnedReadHalf> {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.read(buffer).await?, Vec::new()))
    }
}

/// The half that zbus writes to.
#[derive(Debug)]
struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(length: usize) -> Message {
        let call = Message::method_call("/", "Any").sender(":1.7");
        call.build(&vec![0_u8; length]).unwrap()
    }

    /// All that zbus would read of `sent`, in pieces of `piece` bytes.
    async fn read(sent: &[u8], piece: usize) -> (Vec<u8>, Vec<Refused>) {
        let (refused, mut refusals) = mpsc::channel(REFUSALS);
        let mut reader = Reader::new(sent, refused);
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => break,
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
        let mut noted = Vec::new();
        while let Ok(refused) = refusals.try_recv() {
            noted.push(refused);
        }
        (all, noted)
    }

    #[tokio::test]
    async fn long_messages_are_skipped_and_their_callers_noted() {
        let (short, long, signal) = (call(1000), call(100_000), {
            let signal = Message::signal("/", "a.b", "C").sender(":1.7");
            signal.build(&vec![0_u8; 100_000]).unwrap()
        });
        let lines = b"OK 1234deadbeef\r\nAGREE_UNIX_FD\r\n";
        let parts: [&[u8]; 6] = [lines, short.data(), long.data(), signal.data(), long.data(), short.data()];
        let wanted = [&lines[..], short.data(), short.data()].concat();
        for piece in [1, 7, 16, 4096] {
            let (read, refused) = read(&parts.concat(), piece).await;
            assert_eq!(read, wanted, "in pieces of {piece}");
            let serial = long.primary_header().serial_num();
            let one = || Refused { sender: ":1.7".into(), serial, length: 100_004 };
            assert_eq!(refused, [one(), one()]);
        }
    }

    #[tokio::test]
    async fn an_answer_may_be_longer_than_a_call() {
        let answer = Message::method_return(&call(1).header()).build(&vec![0_u8; 100_000]).unwrap();
        let (all, refused) = read(answer.data(), 5000).await;
        assert!(all == **answer.data() && refused.is_empty());
    }
}
