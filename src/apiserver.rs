//! The connection to the API server.

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

/// A client that sends each write at once and repeats nothing by itself.
///
/// kube's own client leaves Nagle's algorithm on (kube-rs/kube#2056): the second of two small frames on an exec stream
/// may wait for the other side's delayed acknowledgement, up to 40 ms on Linux. It also repeats requests, a POST and
/// the opening of an exec stream among them, which nobody could tell apart; what can be repeated, its user repeats.
///
/// `config.proxy_url` is not supported: inside a cluster there is none.
///
/// # Errors
/// When the configuration's credentials or certificates cannot be used.
pub fn connect(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
