//! [`Link`]: another host, far away. Two network devices, one of them in a network namespace of its own, and between them
//! the benchmark itself, which holds every packet back as a slow and long line does. What is measured runs on the kernel's
//! own TCP; and no queueing discipline is needed that not every kernel has.

use crate::support::host::Host;
use crate::support::tool;
use nix::libc::{IFF_NO_PI, IFF_TUN, c_int, ifreq};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Packets that wait on the way; what comes then is lost. As many as tc-netem(8) keeps.
const QUEUE: usize = 1_000;
/// The largest packet that a device of the usual size takes.
const PACKET: usize = 1_500;

/// See the module. It ends when dropped.
pub struct Link {
    far_end: Host,
    near_end: String,
}

impl Link {
    /// Why there can be none here.
    pub fn obstacle() -> Option<String> {
        if !crate::support::is_root() {
            return Some("a network namespace and its devices are made by root".to_owned());
        }
        let found = Command::new("ip").arg("netns").output().is_ok_and(|output| output.status.success());
        match File::open("/dev/net/tun") {
            Err(error) => Some(format!("/dev/net/tun: {error}")),
            Ok(_) if !found => Some("no ip here: apt-get install iproute2".to_owned()),
            Ok(_) => None,
        }
    }

    /// A packet is under way for `delay`, in each direction, and each direction takes so many `bits` a second.
    pub fn new(delay: Duration, bits: u32) -> Self {
        // From 198.18.0.0/15, which RFC 2544 keeps for tests of networks.
        let (second, third, fourth) = (fastrand::u8(18..=19), fastrand::u8(..), fastrand::u8(..64) * 4);
        let [near, far] = [1, 2].map(|last| Ipv4Addr::new(198, second, third, fourth + last));
        let number = fastrand::u32(..);
        let (near_end, far_device) = (format!("near{number:08x}"), format!("far{number:08x}"));
        let name = format!("{}{:04x}", prefix(), number >> 16);
        ip(&["netns", "add", &name]);
        let link = Self { far_end: Host { name: name.clone(), address: far.into() }, near_end };
        let ends =
            [&link.near_end, &far_device].map(|name| device(name).unwrap_or_else(|error| panic!("{name}: {error}")));
        ip(&["link", "set", &far_device, "netns", &name]);
        ip(&["address", "add", &format!("{near}/30"), "dev", &link.near_end]);
        ip(&["link", "set", &link.near_end, "up"]);
        ip(&["-n", &name, "address", "add", &format!("{far}/30"), "dev", &far_device]);
        ip(&["-n", &name, "link", "set", &far_device, "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        let [near, far] = ends;
        let copies = [&near, &far].map(|end| end.try_clone().expect("a descriptor more"));
        let [near_copy, far_copy] = copies;
        carry(near, far_copy, delay, bits);
        carry(far, near_copy, delay, bits);
        link
    }

    /// Takes away the namespaces of all links of this process, whose destructors will not run. The devices go with it and
    /// with them.
    pub fn end_all() {
        let listed = Command::new("ip").args(["netns", "list"]).output();
        let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for name in listed.split_whitespace().filter(|word| word.starts_with(&prefix())) {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }

    pub fn far_end(&self) -> &Host {
        &self.far_end
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The other one goes with its namespace. Reading from a device that is gone fails, and its thread ends.
        let _ = Command::new("ip").args(["link", "delete", &self.near_end]).status();
    }
}

/// What the names of this process's namespaces start with.
fn prefix() -> String {
    format!("ssb{:x}-", std::process::id())
}

/// One direction: one thread takes packets in and notes when, another lets them out when they are due.
fn carry(from: File, to: File, delay: Duration, bits: u32) {
    let (sender, receiver) = sync_channel(QUEUE);
    thread::spawn(move || take_in(from, &sender));
    thread::spawn(move || let_out(to, &receiver, delay, bits));
}

type Packet = (Instant, Vec<u8>);

fn take_in(mut from: File, queue: &SyncSender<Packet>) {
    let mut buffer = [0; PACKET];
    while let Ok(length) = from.read(&mut buffer) {
        // A full queue loses it, as a router's does.
        let _ = queue.try_send((Instant::now(), buffer[..length].to_vec()));
    }
}

fn let_out(mut to: File, queue: &Receiver<Packet>, delay: Duration, bits: u32) {
    let mut free = Instant::now();
    while let Ok((came, packet)) = queue.recv() {
        let seconds = packet.len() as f64 * 8.0 / f64::from(bits);
        free = free.max(came) + Duration::from_secs_f64(seconds);
        thread::sleep((free + delay).saturating_duration_since(Instant::now()));
        // A device that is down, or gone, takes nothing.
        let _ = to.write_all(&packet);
    }
}

/// A network device whose packets are read from and written to the file.
fn device(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an `ifreq` of zeros is a valid one: integers, bytes and null pointers.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "{name:?} is too long for a device");
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as nix::libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (IFF_TUN | IFF_NO_PI) as nix::libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, and this one lives until it returns.
    unsafe { set_device(file.as_raw_fd(), &raw const request) }?;
    Ok(file)
}

mod request {
    use super::{c_int, ifreq};

    nix::ioctl_write_ptr_bad!(
        /// TUNSETIFF: its number says `int`, its argument is an `ifreq`.
        set_device,
        nix::request_code_write!(b'T', 202, size_of::<c_int>()),
        ifreq
    );
}
use request::set_device;

fn ip(arguments: &[&str]) {
    tool(Command::new("ip").args(arguments));
}
