//! A small internet: names with public addresses, behind which listeners of a test stand.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;

use podwright::egress::route::{PodNetwork, Route};
use tokio::net::TcpStream;

/// Names, and where connections to them really go. What the proxy judges are the public addresses.
#[derive(Default)]
pub(crate) struct Hosts {
    names: HashMap<String, IpAddr>,
    doors: HashMap<SocketAddr, SocketAddr>,
    /// The way to everything else.
    pub(crate) others: Option<PodNetwork>,
}

impl Hosts {
    /// The same with a host that answers on a port.
    pub(crate) fn at(mut self, name: &str, port: u16, door: SocketAddr) -> Self {
        let next = u8::try_from(self.names.len() + 1).expect("few names");
        let address = *self.names.entry(name.to_owned()).or_insert(Ipv4Addr::new(93, 184, 215, next).into());
        self.doors.insert(SocketAddr::new(address, port), door);
        self
    }
}

impl Route for Hosts {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        match (self.names.get(name), &self.others) {
            (Some(address), _) => Box::pin(std::future::ready(Ok(vec![*address]))),
            (None, Some(others)) => others.resolve(name),
            (None, None) => Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into()))),
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>> {
        match (self.doors.get(&address), &self.others) {
            (Some(door), _) => Box::pin(TcpStream::connect(*door)),
            (None, Some(others)) => others.connect(address),
            (None, None) => Box::pin(std::future::ready(Err(io::ErrorKind::HostUnreachable.into()))),
        }
    }
}
