//! What commands reach in each network mode, and what the model is told of it.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use podwright::agent::driver::Stopped;
use podwright::agent::driver::network::Outside;
use podwright::api::AgentAttemptStatus;
use podwright::api::attempt::{Phase, VerificationState};
use podwright::api::reasons::Reason;
use podwright::egress::route::PodNetwork;
use serde_json::{Value, json};
use url::Url;

use crate::hosts::Hosts;
use crate::stage::Stage;

/// A host that says hello to every request.
fn hello() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
        }
    });
    address
}

/// A stage whose commands may reach `registry.example` and others that nobody lists.
async fn stage(script: &str) -> Stage {
    let mut stage = Stage::new(script).await;
    let hosts = Hosts::default().at("registry.example", 80, hello()).at("other.example", 80, hello());
    stage.outside = Outside { route: Arc::new(hosts), closed: Vec::new() };
    stage
}

/// Fetches and says what came of it. Python reads the variables for proxies by itself.
const FETCH: &str = r#"python3 -c 'import sys, urllib.request
for url in sys.argv[1:]:
    try: print(urllib.request.urlopen(url).read().decode(), end="")
    except Exception as error: print(error)'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reaches_the_list_and_the_model_hears_of_every_refusal() {
    let script = format!(
        r#"
scenarios:
  - name: network
    replies:
      - expect: {{instructions: {{contains: "no others: `proxy.golang.org`, `sum.golang.org`, `registry.example`.", excludes: Downloads and package installation}}}}
        output:
          - call: {{tool: exec_command, arguments: {{cmd: {cmd}}}}}
      - expect: {{lastOutput: {{matches: '(?s)hello\n.*403.*The network proxy of the sandbox has refused:\n- other.example:80: this name is not on the environment.s list \(2 times\)\]'}}}}
        output:
          - call: {{tool: exec_command, arguments: {{cmd: "env | grep -ci _proxy; echo ${{PODWRIGHT_SANDBOX_NETWORK_DISABLED:-enabled}}"}}}}
      - expect: {{lastOutput: {{contains: "9\nenabled", excludes: refused}}}}
        output: [{{text: Done.}}]
"#,
        cmd = json!(format!("{FETCH} http://registry.example/ http://other.example/ http://other.example/"))
    );
    let mut stage = stage(&script).await;
    stage.job["environment"] =
        json!({"network": "Allowlist", "egress": {"names": ["registry.example"], "presets": ["Go"]}});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
    let network = status.network.unwrap();
    assert_eq!(network.refused, 2);
    assert!(network.last_refused.starts_with("other.example:80: "), "{}", network.last_refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_public_is_reached_and_nothing_else() {
    let script = format!(
        r#"
scenarios:
  - name: network
    replies:
      - expect: {{instructions: {{contains: "to public hosts; private and link-local addresses"}}}}
        output:
          - call: {{tool: exec_command, arguments: {{cmd: {cmd}}}}}
      - expect: {{lastOutput: {{matches: '(?s)hello\n.*10.0.0.1 is a private address.*169.254.169.254 is a link-local address'}}}}
        output: [{{text: Done.}}]
"#,
        cmd = json!(format!("{FETCH} http://other.example/ http://10.0.0.1/ http://169.254.169.254/"))
    );
    let mut stage = stage(&script).await;
    stage.job["environment"] = json!({"network": "Full", "egress": {}});
    let status = stage.run().await;
    let outcome = status.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::Completed, "{}\n{}", outcome.message, stage.log.text());
    assert_eq!(status.network.unwrap().refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_there_is_no_proxy_and_no_word_of_one() {
    let script = r#"
scenarios:
  - name: network
    replies:
      - expect: {instructions: {contains: "Downloads and package installation from the network will fail"}}
        output:
          - call: {tool: exec_command, arguments: {cmd: "env | grep -ci _proxy; echo $PODWRIGHT_SANDBOX_NETWORK_DISABLED"}}
      - expect: {lastOutput: "0\n1"}
        output: [{text: Done.}]
"#;
    let status = stage(script).await.run().await;
    assert_eq!(status.outcome.unwrap().reason, Reason::Completed);
    assert_eq!(status.network, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_none_ends_the_attempt_before_anything_runs() {
    let mut stage = stage("scenarios:\n  - name: none\n    replies: [{output: [{text: Done.}]}]\n").await;
    stage.job["environment"] = json!({"network": "Allowlist", "egress": {"names": ["10.0.0.1"]}});
    let outcome = stage.run().await.outcome.unwrap();
    assert_eq!(outcome.reason, Reason::InvalidSpec, "{}", outcome.message);
    assert!(outcome.message.contains("spec.network.names"), "{}", outcome.message);
}

/// A model that changes something, so that there is a patch to verify.
const WORK: &str = r#"
scenarios:
  - name: work
    replies:
      - output:
          - call: {tool: exec_command, arguments: {cmd: "echo new > new.txt"}}
      - output: [{text: Done.}]
"#;

/// What came of commands that verify in an environment.
async fn verified(mut stage: Stage, environment: Value, commands: &[(&str, String)]) -> AgentAttemptStatus {
    let commands: Vec<Value> = commands
        .iter()
        .map(|(name, command)| json!({"name": name, "command": command, "timeoutSeconds": 300}))
        .collect();
    stage.job["environment"] = environment;
    stage.job["verification"] =
        json!({"commands": commands, "pod": {"image": "sandbox", "workspaceSize": "1Gi"}});
    let status = stage.run().await;
    assert_eq!(status.phase, Some(Phase::Verifying), "{}", stage.log.text());
    stage.next_pod();
    assert_eq!(stage.verifier().ended().await, Stopped::Published, "{}", stage.log.text());
    stage.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_verify_have_the_same_network() {
    let environment = json!({"network": "Allowlist", "egress": {"names": ["registry.example"]}});
    let command = format!("{FETCH} http://registry.example/ http://other.example/");
    let status = verified(stage(WORK).await, environment, &[("fetch", command)]).await;
    let result = &status.verification[0];
    assert_eq!(result.state, VerificationState::Passed, "{result:?}");
    assert!(
        result.output.starts_with("hello\n") && result.output.contains("has refused:"),
        "{}",
        result.output
    );
    assert_eq!(status.network.unwrap().refused, 1);
}

/// By hack/registries also package managers, against the registries themselves.
#[tokio::test(flavor = "multi_thread")]
async fn programs_work_unchanged() {
    let mut stage = Stage::new(WORK).await;
    let url: Url = stage.job["repository"]["url"].as_str().unwrap().parse().unwrap();
    let git = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), url.port().unwrap());
    let mut hosts = Hosts::default().at("git.example", 80, git);
    hosts.others = Some(PodNetwork);
    stage.outside = Outside { route: Arc::new(hosts), closed: Vec::new() };
    // git speaks to its server several times over one connection, and sends bodies.
    let clone = "git clone -q http://git.example/open/app there && test -e there/greet.sh";
    let mut clients = vec![("git", clone.to_owned())];
    if env::var_os("PODWRIGHT_TEST_REGISTRIES").is_some() {
        // cargo tells its tests where it is.
        let cargo = PathBuf::from(env::var_os("CARGO").unwrap());
        let cargo = cargo.parent().unwrap().display();
        let in_own_folder = |(name, command): (&'static str, &str)| {
            (
                name,
                format!("mkdir /tmp/{name}; cd /tmp/{name}; PATH=$PATH:/usr/local/go/bin:{cargo}; {command}"),
            )
        };
        clients.extend(REGISTRIES.map(in_own_folder));
    }
    let certificates = "/etc/ssl/certs/ca-certificates.crt";
    let variables = ["PIP_CERT", "NODE_EXTRA_CA_CERTS", "CARGO_HTTP_CAINFO", "SSL_CERT_FILE"];
    let environment = json!({
        "network": "Allowlist",
        "egress": {"names": ["git.example"], "presets": ["Python", "JavaScript", "Rust", "Go", "Debian"]},
        "env": variables.map(|name| json!({"name": name, "value": certificates})),
    });
    let status = verified(stage, environment, &clients).await;
    for result in &status.verification {
        println!("{}: {:?} in {} s", result.name, result.state, result.seconds);
        assert_eq!(result.state, VerificationState::Passed, "{result:#?}");
        assert!(!result.output.contains("has refused"), "{}", result.output);
    }
}

/// What the package managers of the presets fetch: something small each, as a person would.
const REGISTRIES: [(&str, &str); 5] = [
    ("pip", "/usr/bin/python3 -m pip download -q --no-deps idna==3.7 && ls idna-3.7*"),
    ("npm", "npm pack --silent left-pad@1.3.0 && ls left-pad-1.3.0.tgz"),
    (
        "cargo",
        "export CARGO_HOME=/tmp/cargo-home; mkdir src; touch src/lib.rs; \
         printf '[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"=1.0.0\"\n' > Cargo.toml; \
         cargo fetch -q && ls /tmp/cargo-home/registry/cache/*/itoa-1.0.0.crate",
    ),
    ("go", "go mod init -C . example.com/a; go get rsc.io/quote@v1.5.2 && grep -q rsc.io/quote go.sum"),
    (
        "apt",
        "mkdir -p state/lists/partial cache/archives/partial; touch status; \
         echo 'deb [trusted=yes] http://deb.debian.org/debian bookworm main' > list; \
         apt-get -qq -o Dir::Etc::sourcelist=$PWD/list -o Dir::Etc::sourceparts=- -o Dir::State=$PWD/state \
         -o Dir::State::status=$PWD/status -o Dir::Cache=$PWD/cache -o APT::Sandbox::User=root \
         -o APT::Get::List-Cleanup=false update && \
         apt-get -qq -o Dir::Etc::sourcelist=$PWD/list -o Dir::Etc::sourceparts=- -o Dir::State=$PWD/state \
         -o Dir::State::status=$PWD/status -o Dir::Cache=$PWD/cache -o APT::Sandbox::User=root download hello && ls hello_*.deb",
    ),
];
