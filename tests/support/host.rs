//! [`Host`]: another machine's place in the network: a network namespace with an address of its own, reached over a link
//! that can be cut. What runs in it is a process of this machine like any other; its network is not.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// A network namespace and the link to it. Both end when dropped.
#[derive(Debug)]
pub struct Host {
    /// The namespace's name. The link's end on this side has it too.
    pub name: String,
    /// The address it is reached at.
    pub address: IpAddr,
}

impl Host {
    /// One more host. It takes two addresses of 198.18.0.0/15, which RFC 2544 keeps for tests of networks.
    pub fn new() -> Self {
        let (third, fourth) = (fastrand::u8(..), fastrand::u8(..64) * 4);
        let [near, far] = [1, 2].map(|last| Ipv4Addr::new(198, 18 + fastrand::u8(..=1), third, fourth + last));
        // 15 characters are all that a link's name may have.
        let name = format!("sst{:08x}", fastrand::u32(..));
        let host = Self { name, address: far.into() };
        let name = host.name.as_str();
        ip(&["netns", "add", name]);
        ip(&["link", "add", name, "type", "veth", "peer", "name", "uplink", "netns", name]);
        ip(&["address", "add", &format!("{near}/30"), "dev", name]);
        ip(&["link", "set", name, "up"]);
        ip(&["-n", name, "address", "add", &format!("{far}/30"), "dev", "uplink"]);
        ip(&["-n", name, "link", "set", "uplink", "up"]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        host
    }

    /// Cuts the link: nothing answers, nothing is refused.
    pub fn cut(&self) {
        ip(&["-n", &self.name, "link", "set", "uplink", "down"]);
    }

    /// Joins it again.
    pub fn join(&self) {
        ip(&["-n", &self.name, "link", "set", "uplink", "up"]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The link goes with the namespace.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip is needed: apt-get install iproute2");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
