//! Liveness, readiness and metrics over HTTP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the process can do its work. That it is alive, its answering shows.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// From now on it can.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// From now on it can't.
    pub fn set_unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn code(&self) -> StatusCode {
        if self.ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

/// Answers `/livez`, `/readyz` and `/metrics` until `stop`. `render` gives the text of the metrics.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    render: impl Fn() -> String + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) -> io::Result<()> {
    let metrics = move || async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render()) };
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(move || async move { health.code() }))
        .route("/metrics", get(metrics));
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_is_ready_only_when_it_says_so_and_ends_when_it_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::default());
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, health.clone(), || "a_metric 1\n".into(), stop.clone()));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        health.set_ready();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.ends_with("a_metric 1\n"));
        stop.cancel();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
