//! A command over the agent's stream, and over a `pods/exec` call of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use podwright::sandbox::protocol::{BootId, Network, OpId, Start};
use podwright::sandbox::{Options, Outcome, PodDial, Sandbox, TokenFile};

use crate::Bench;
use crate::peer::Peers;
use crate::report::Row;
use crate::samples::Samples;

/// A name that the admission policy of the chart leaves alone: the pod has no agent whose stream to protect.
const POD: &str = "bare-stream";

/// Calls before the first that counts.
const WARM_UP: u32 = 3;

pub(crate) async fn measure(bench: &Bench, peers: &Peers) -> Vec<Row> {
    peers.create(POD).await;
    peers.first_command(POD, "pwd").await;

    let state = tempfile::tempdir().expect("a folder");
    let options = Options {
        client_name: "bench".into(),
        tokens: TokenFile::new(state.path().join("token")),
        first_within: Duration::from_secs(60),
        give_up_after: Duration::from_secs(60),
    };
    let sandbox = Sandbox::connect(PodDial::new(peers.pods.clone(), POD), options);
    let boot = sandbox.ready().await.expect("the supervisor is reached").id;
    let phase = OpId::new("phase").expect("an id");
    sandbox.begin_phase(&boot, phase, Network::Loopback).await.expect("commands can be confined");

    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + bench.rounds.commands {
        let one = over_the_stream(&sandbox, &boot, round).await;
        let begun = Instant::now();
        peers.exec(POD, &["/bin/true"]).await.expect("the command ends with 0");
        let other = begun.elapsed();
        if round >= WARM_UP {
            ours.add(one);
            theirs.add(other);
        }
    }
    drop(sandbox);
    let pod = peers.pods.get(POD).await.expect("the pod");
    peers.delete(&pod).await;
    bench.quiet().await;
    vec![Row::ratio("Command `true` through the agent's stream", &ours, &theirs, 1.0 / 20.0).note(
        "The agent's own client (`podwright::sandbox`), from outside the cluster, to the supervisor of a pod: start, confined as \
         every command, to the exit record with its digests. The peer is one `pods/exec` call of the same program in the same \
         container by the same Kubernetes client, to its status. Alternating.",
    )]
}

async fn over_the_stream(sandbox: &Sandbox, boot: &BootId, round: u32) -> Duration {
    let id = OpId::new(format!("true-{round}")).expect("an id");
    let start = Start {
        process_id: id.clone(),
        argv: vec!["/bin/true".into()],
        cwd: "/workspace/main".into(),
        env: BTreeMap::new(),
        tty: false,
        pipe_stdin: false,
        deadline_ms: None,
    };
    let begun = Instant::now();
    sandbox.start(boot, start, 0).await.expect("the command starts");
    let seen = sandbox.observe(&id, Duration::from_secs(60)).await.expect("the command is followed");
    let time = begun.elapsed();
    let Outcome::Exited(_) = seen.outcome else { panic!("`true` became {:?}", seen.outcome) };
    sandbox.acknowledge(boot, &id).await.expect("the supervisor forgets it");
    time
}
