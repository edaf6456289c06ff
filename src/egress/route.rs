//! The way to other hosts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// How long a silent connection may be before the kernel asks whether the other end is there: below the time after which
/// firewalls and load balancers forget a connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Looks up names and connects. What is connected to was judged before.
pub trait Route: Send + Sync + 'static {
    /// The addresses of a name.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// A connection to an address, and to no other.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The network of this process's pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodNetwork;

impl Route for PodNetwork {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // With the dot it is the whole name: the pod's search domains, which are the cluster's, are not tried.
            let found = lookup_host((format!("{name}."), 0)).await?;
            let mut addresses: Vec<IpAddr> = found.map(|found| found.ip()).collect();
            addresses.dedup();
            Ok(addresses)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_keepalive(true)?;
            let stream = socket.connect(address).await?;
            rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}
