//! One exec stream through the real API server, and what happens to a command when the stream or the server goes.
//!
//! A supervisor alone in a pod, and this process as its agent: through a passthrough of its own, which can be cut and
//! led to another API server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use podwright::sandbox::{Known, Options, Outcome, PodDial, Sandbox, TokenFile};
use podwright_sandboxd::protocol::{Network, OpId, Start};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cluster::{self, TestNamespace, kubeconfig};
use crate::world::installed_images;

/// Where the passthrough leads, and how often it was cut.
#[derive(Clone, Copy, PartialEq)]
struct Route {
    to: SocketAddr,
    cuts: u32,
}

/// Forwards connections until the route changes, which cuts them all.
async fn passthrough(route: watch::Receiver<Route>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let mut route = route.clone();
            tokio::spawn(async move {
                let to = route.borrow_and_update().to;
                let Ok(mut outside) = TcpStream::connect(to).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut inside, &mut outside) => {}
                    _ = route.changed() => {}
                }
            });
        }
    });
    address
}

/// A client with the administrator's rights (and so with the verb `breakglass`) through the passthrough.
async fn client_through(address: SocketAddr) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig()).expect("the kubeconfig");
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
    config.cluster_url = format!("https://{address}").parse().expect("a URL");
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

/// A pod of the supervisor alone, and the namespace in which it is.
async fn supervisor() -> (TestNamespace, &'static str) {
    const NAME: &str = "supervisor";
    let client = cluster::admin().await;
    let namespace = TestNamespace::create(&client, "e2e-stream").await;
    let (podwright, sandbox) = installed_images(&client).await;
    let confined = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let tools = json!([{"name": "tools", "mountPath": "/tools"}]);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": NAME},
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1_234_567, "runAsGroup": 1_234_567, "fsGroup": 1_234_567,
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "install", "image": podwright, "args": ["install"],
                "securityContext": confined, "volumeMounts": tools}],
            "containers": [{"name": "sandbox", "image": sandbox, "command": ["/tools/podwright-sandboxd"],
                "workingDir": "/", "securityContext": confined,
                "volumeMounts": [tools[0], {"name": "workspace", "mountPath": "/workspace"},
                    {"name": "home", "mountPath": "/home/agent"}]}],
            "volumes": [{"name": "tools", "emptyDir": {}}, {"name": "workspace", "emptyDir": {}},
                {"name": "home", "emptyDir": {}}],
        },
    }))
    .expect("a pod");
    let pods: Api<Pod> = Api::namespaced(client, &namespace.name);
    pods.create(&PostParams::default(), &pod).await.expect("it is taken");
    (namespace, NAME)
}

fn op(id: &str) -> OpId {
    OpId::new(id).expect("an id")
}

/// Writes a line each 100 ms, and notes that it ran.
fn slow(lines: u32) -> Start {
    let script = format!(
        "echo run >> /workspace/runs; i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); sleep 0.1; done; \
         cat /workspace/runs; exit 7"
    );
    Start {
        process_id: op("slow"),
        argv: ["/bin/sh", "-c", &script].map(Into::into).to_vec(),
        cwd: "/workspace".into(),
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        tty: false,
        pipe_stdin: false,
        deadline_ms: None,
    }
}

/// Runs the slow command while `trouble` happens, and checks that nothing was lost, repeated or made up.
async fn survives(
    route: &watch::Sender<Route>,
    lines: u32,
    trouble: impl AsyncFnOnce(&watch::Sender<Route>),
) {
    let (namespace, pod) = supervisor().await;
    let address = passthrough(route.subscribe()).await;
    let pods: Api<Pod> = Api::namespaced(client_through(address).await, &namespace.name);
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options {
        client_name: "e2e".into(),
        tokens: TokenFile::new(folder.path().join("token")),
        first_within: Duration::from_secs(180),
        give_up_after: Duration::from_secs(180),
    };
    let sandbox = Sandbox::connect(PodDial::new(pods, pod), options);
    let boot = sandbox.ready().await.expect("the supervisor answers").id;
    sandbox.begin_phase(&boot, op("phase"), Network::Loopback).await.expect("a phase");
    sandbox.start(&boot, slow(lines), 0).await.expect("it starts");

    let output = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let following = {
        let (sandbox, output) = (sandbox.clone(), output.clone());
        tokio::spawn(async move {
            loop {
                // While there is no connection a look may fail; the command goes on all the same.
                let Ok(look) = sandbox.observe(&op("slow"), Duration::from_millis(500)).await else {
                    continue;
                };
                assert_eq!(look.output.omitted, 0);
                output.lock().await.extend_from_slice(&look.output.head);
                if look.outcome != Outcome::Running {
                    break look.outcome;
                }
            }
        })
    };
    for _ in 0..600 {
        if !output.lock().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!output.lock().await.is_empty(), "the command writes");
    trouble(route).await;
    assert!(!following.is_finished(), "the command ended before the trouble did");
    let outcome = tokio::time::timeout(Duration::from_secs(180), following).await;
    let outcome = outcome.expect("the command is followed to its end").expect("no panic");

    let Outcome::Exited(ended) = outcome else { panic!("{outcome:?}") };
    assert_eq!(ended.exit, Known::Code(7));
    let mut expected: String = (0..lines).map(|line| format!("line {line}\n")).collect();
    expected.push_str("run\n");
    assert_eq!(String::from_utf8_lossy(&output.lock().await), expected);
    namespace.delete().await;
}

fn api_server() -> SocketAddr {
    "127.0.0.1:6443".parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_cut_in_the_middle_of_a_command() {
    let (route, _) = watch::channel(Route { to: api_server(), cuts: 0 });
    survives(&route, 80, async |route| {
        for _ in 0..3 {
            route.send_modify(|route| route.cuts += 1);
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    })
    .await;
}

/// An API server beside the cluster's own. It ends with the value.
struct SecondServer(Child);

impl SecondServer {
    const PORT: u16 = 6544;

    async fn start() -> (Self, SocketAddr) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/cluster");
        let arguments = Command::new(script).args(["apiserver-args", &Self::PORT.to_string()]).output();
        let arguments = arguments.expect("hack/cluster can be run");
        assert!(arguments.status.success(), "{}", String::from_utf8_lossy(&arguments.stderr));
        let text = String::from_utf8(arguments.stdout).expect("text");
        let mut lines = text.lines();
        let child = Command::new(lines.next().expect("a program"))
            .args(lines)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a second API server can be started");
        let server = Self(child);
        let address = SocketAddr::from(([127, 0, 0, 1], Self::PORT));
        for _ in 0..600 {
            if TcpStream::connect(address).await.is_ok() {
                let client = client_through(address).await;
                let ready = http::Request::get("/readyz").body(Vec::new()).expect("a request");
                if client.request_text(ready).await.is_ok_and(|answer| answer == "ok") {
                    return (server, address);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the second API server does not become ready");
    }

    /// Asks it to end, as a roll-out does.
    fn terminate(&self) {
        let sent = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill can be run");
        assert!(sent.success());
    }

    /// Waits until it has ended. It takes some 10 s to finish what it serves.
    async fn gone(&mut self) {
        for _ in 0..300 {
            if self.0.try_wait().expect("a child can be asked").is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the second API server does not end");
    }
}

impl Drop for SecondServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stops_under_a_running_command() {
    let (mut server, address) = SecondServer::start().await;
    let (route, _) = watch::channel(Route { to: address, cuts: 0 });
    // 40 s, which is longer than is waited for the end of the server.
    survives(&route, 400, async |route| {
        server.terminate();
        // New connections find the other server. The old ones are not cut here: that is for the server to do, and for
        // the client to notice.
        route.send_if_modified(|route| {
            route.to = api_server();
            false
        });
        server.gone().await;
    })
    .await;
}
