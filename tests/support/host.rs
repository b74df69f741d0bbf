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
        let (second, third, fourth) = (fastrand::u8(18..=19), fastrand::u8(..), fastrand::u8(..64) * 4);
        let [near, far] = [1, 2].map(|last| Ipv4Addr::new(198, second, third, fourth + last));
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

/// Hosts that reach each other, and are reached from here: namespaces on one bridge. All of it ends when dropped.
#[derive(Debug)]
pub struct Lan {
    /// The bridge's name.
    bridge: String,
    pub hosts: Vec<Host>,
}

impl Lan {
    /// `count` hosts, at most 200. They take a network of 198.18.0.0/15.
    pub fn new(count: u8) -> Self {
        let (second, third) = (fastrand::u8(18..=19), fastrand::u8(..));
        let bridge = format!("ssb{:08x}", fastrand::u32(..));
        ip(&["link", "add", &bridge, "type", "bridge"]);
        let mut lan = Self { bridge, hosts: Vec::new() };
        ip(&["address", "add", &format!("198.{second}.{third}.254/24"), "dev", &lan.bridge]);
        ip(&["link", "set", &lan.bridge, "up"]);
        for number in 1..=count {
            let address = Ipv4Addr::new(198, second, third, number);
            let host = Host { name: format!("sst{:08x}", fastrand::u32(..)), address: address.into() };
            let name = host.name.as_str();
            ip(&["netns", "add", name]);
            ip(&["link", "add", name, "type", "veth", "peer", "name", "uplink", "netns", name]);
            ip(&["link", "set", name, "master", &lan.bridge, "up"]);
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "uplink"]);
            ip(&["-n", name, "link", "set", "uplink", "up"]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
            lan.hosts.push(host);
        }
        lan
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.hosts.clear();
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).status();
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
