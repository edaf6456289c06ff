//! A supervisor in a pod, through the exec API.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;

use super::{Dial, DialError, Transport};

/// The container, and the command that admission lets an agent run there, to the letter.
const CONTAINER: &str = "sandbox";
const COMMAND: [&str; 2] = ["/tools/podwright-sandboxd", "attach"];

/// Bytes between us and kube's own task, each way: a whole frame, so that neither waits for the other in the
/// middle of a line.
const BUFFER: usize = 64 * 1024;

/// Time that the transport's own word on its end may take once it has ended.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Dials the sandbox container of a pod.
#[derive(Debug, Clone)]
pub struct PodDial {
    pods: Api<Pod>,
    name: String,
}

impl PodDial {
    /// Dials the sandbox of the pod `name` in the namespace of `pods`. The client should not retry by itself: the
    /// pause between attempts is ours.
    pub fn new(pods: Api<Pod>, name: impl Into<String>) -> Self {
        Self { pods, name: name.into() }
    }
}

impl Dial for PodDial {
    async fn dial(&self) -> Result<Transport, DialError> {
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(true)
            .stdout(true)
            .stderr(false)
            .tty(false)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER);
        let attached = self.pods.exec(&self.name, COMMAND, &parameters).await;
        let mut attached = attached.map_err(|error| DialError(error.to_string()))?;
        let missing = || DialError("the exec stream has no input or output".to_owned());
        let writer = attached.stdin().ok_or_else(missing)?;
        let reader = attached.stdout().ok_or_else(missing)?;
        let status = attached.take_status().ok_or_else(missing)?;
        // A cut stream is seen here alone: its reader then waits for ever and its writer goes on succeeding. The
        // status comes, or its sender goes away, when kube's task ends; until then `attached` must stay alive, and
        // dropping it stops that task.
        let ended = async move {
            let status = status.await;
            let joined = tokio::time::timeout(LAST_WORD, attached.join()).await;
            match (status.and_then(|status| status.message), joined) {
                (Some(message), _) => message,
                (None, Ok(Err(error))) => error.to_string(),
                (None, Ok(Ok(())) | Err(_)) => "the exec stream was closed".to_owned(),
            }
        };
        Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), ended: Box::pin(ended) })
    }
}
