//! The bare pod that a task's pod is measured against: the same two containers, images, volumes and hook, but in place
//! of an agent a shell that clones the repository. What an agent does is done from outside.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt as _;
use kube::api::{Api, AttachParams, DeleteParams, ObjectMeta, PostParams};
use podwright::names;
use tokio::io::AsyncReadExt as _;

use crate::world::World;

/// Between two tries to reach a container that is not there yet: the agent's own first pause.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries, about two minutes with the time that a refusal takes.
const TRIES: usize = 1200;

/// Makes bare pods.
pub(crate) struct Peers {
    pub(crate) pods: Api<Pod>,
    spec: PodSpec,
}

impl Peers {
    /// Bare pods like `pod`, which clone `repository` as a task does.
    pub(crate) fn like(world: &World, pod: &Pod, repository: &str) -> Self {
        let mut spec = pod.spec.clone().expect("a pod has a spec");
        spec.node_name = None;
        // The task's own account is gone with its work.
        spec.service_account_name = Some("default".into());
        spec.service_account = None;
        let url = world.git.url(repository);
        let clone = format!(
            "git clone -q --depth 50 --branch main {url} /workspace/main && touch /workspace/cloned; exec sleep 900"
        );
        for container in &mut spec.containers {
            if container.name == names::AGENT_CONTAINER {
                container.command = Some(["sh", "-c", &clone].map(str::to_owned).to_vec());
            }
        }
        Self { pods: world.api(), spec }
    }

    /// Makes one, and tells when it was asked for.
    pub(crate) async fn create(&self, name: &str) -> Timestamp {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let pod = Pod { metadata, spec: Some(self.spec.clone()), status: None };
        let asked = Timestamp::now();
        self.pods.create(&PostParams::default(), &pod).await.expect("a pod can be made");
        asked
    }

    /// Runs a command in the repository as soon as it is there, and gives what it printed.
    pub(crate) async fn first_command(&self, name: &str, command: &str) -> String {
        let script =
            format!("until [ -e /workspace/cloned ]; do sleep 0.01; done; cd /workspace/main && {command}");
        for _ in 0..TRIES {
            let printed = self.exec(name, &["/bin/sh", "-c", &script]).await;
            if let Some(printed) = printed.filter(|printed| !printed.is_empty()) {
                return printed;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("no command runs in the pod {name}");
    }

    /// One `pods/exec` call in the sandbox, to its end. `None` when it could not be made or did not end with 0.
    pub(crate) async fn exec(&self, name: &str, command: &[&str]) -> Option<String> {
        let parameters = AttachParams::default().container(names::SANDBOX_CONTAINER).stderr(false);
        let mut attached = self.pods.exec(name, command.iter().copied(), &parameters).await.ok()?;
        let status = attached.take_status()?;
        let mut output = attached.stdout()?;
        let mut printed = String::new();
        let reading = output.read_to_string(&mut printed);
        let (read, status) = tokio::join!(reading, status);
        read.ok()?;
        (status?.status.as_deref() == Some("Success")).then_some(printed)
    }

    /// Deletes one, without waiting.
    pub(crate) async fn delete(&self, pod: &Pod) {
        let soon = DeleteParams::default().grace_period(1);
        self.pods.delete(&pod.name_any(), &soon).await.expect("the pod can be deleted");
    }
}
