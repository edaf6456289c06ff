//! A small internet: names with public addresses, behind which listeners of a test stand.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Mutex;

use podwright::egress::route::{PodNetwork, Route};
use tokio::net::TcpStream;

/// Names, and where connections to them really go. What the proxy judges are the public addresses.
#[derive(Default)]
pub(crate) struct Hosts {
    names: HashMap<String, IpAddr>,
    doors: HashMap<SocketAddr, SocketAddr>,
    /// The way to everything else.
    pub(crate) others: Option<PodNetwork>,
    /// Where that leads, in the order in which it was found.
    mirrors: Mutex<Vec<IpAddr>>,
}

/// The public address that a mirror is given.
fn mirror(at: u8) -> IpAddr {
    Ipv4Addr::new(93, 184, 216, at).into()
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
            // A network that leads to its own mirrors, at addresses that are not public, is for a test as good as any.
            (None, Some(others)) => Box::pin(async move {
                let found = others.resolve(name).await?;
                let mut mirrors = self.mirrors.lock().expect("nobody panics with it");
                for address in &found {
                    if !mirrors.contains(address) {
                        mirrors.push(*address);
                    }
                }
                let place = |address| mirrors.iter().position(|mirror| mirror == address);
                Ok(found
                    .iter()
                    .filter_map(place)
                    .filter_map(|at| u8::try_from(at).ok())
                    .map(mirror)
                    .collect())
            }),
            (None, None) => Box::pin(std::future::ready(Err(io::ErrorKind::NotFound.into()))),
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + '_>> {
        match (self.doors.get(&address), &self.others) {
            (Some(door), _) => Box::pin(TcpStream::connect(*door)),
            (None, Some(others)) => {
                let mirrors = self.mirrors.lock().expect("nobody panics with it");
                let real = mirrors.iter().zip(0..).find(|(_, at)| mirror(*at) == address.ip());
                others.connect(SocketAddr::new(real.map_or(address.ip(), |(real, _)| *real), address.port()))
            }
            (None, None) => Box::pin(std::future::ready(Err(io::ErrorKind::HostUnreachable.into()))),
        }
    }
}
