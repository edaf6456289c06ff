//! The sandbox as it is found: after a restart of the agent, and whenever it was restarted itself.

use std::collections::BTreeMap;

use podwright_sandboxd::protocol::{BootId, Profile};
use tokio::sync::mpsc;

use super::Message;
use super::cluster::Cluster;
use super::network::CommandNetwork;
use super::prepare::{Preparation, Workspace, begin_agent_phase, lost};
use crate::agent::machine::Signal;
use crate::agent::recover::{Question, World};
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::sandbox::{Link, Sandbox};

/// Restarts of the sandbox that an attempt bears. Each one kills whatever runs; a sandbox that dies more
/// often dies of something that the model will not mend.
const RESTARTS_MAX: u32 = 3;

/// What was found after a restart of the agent.
pub(super) struct Survey {
    pub(super) sandbox: Sandbox,
    pub(super) workspace: Workspace,
    pub(super) world: World,
    pub(super) profile: Profile,
}

/// Reaches the sandbox again and looks at the files that decide about patches.
///
/// # Errors
/// How the attempt ends.
pub(super) async fn look<C: Cluster>(
    preparation: &Preparation<C>,
    connect: impl FnOnce() -> Sandbox,
    questions: Vec<Question>,
) -> Result<Survey, Outcome> {
    let sandbox = connect();
    let workspace = preparation.workspace().await?;
    let boot = sandbox.ready().await.map_err(lost)?.id;
    let begun =
        begin_agent_phase(&sandbox, &boot, &preparation.assignment.attempt_uid, &preparation.network).await?;
    let profile = begun.profile;
    let mut files = BTreeMap::new();
    for Question { op, root, paths } in questions {
        let states = sandbox.fs_state(&root, &paths).await.map_err(lost)?;
        files.insert(op, states.into_iter().map(|path| path.state).collect());
    }
    Ok(Survey { sandbox, workspace, world: World { boot, files }, profile })
}

/// Follows the sandbox through its lives.
pub(super) struct FollowSandbox<C> {
    pub(super) cluster: C,
    pub(super) sandbox: Sandbox,
    pub(super) attempt_uid: String,
    pub(super) network: CommandNetwork,
    pub(super) messages: mpsc::Sender<Message>,
}

impl<C: Cluster> FollowSandbox<C> {
    /// Tells of each new life, after commands can run in it, until the sandbox is given up.
    pub(super) async fn run(self, mut boot: BootId) {
        let mut link = self.sandbox.link();
        let mut restarts = 0;
        loop {
            let seen = link.borrow_and_update().clone();
            let signal = match seen {
                Link::Up(up) if up.id != boot => Some(up.id),
                Link::Lost(why) => {
                    let outcome = lost(crate::sandbox::SandboxError::Lost(why));
                    // Nobody listens only when the driver has stopped.
                    let _ = self.messages.send(Message::Signal(Signal::Failed(outcome))).await;
                    return;
                }
                Link::Up(_) | Link::Connecting(_) => None,
            };
            if let Some(next) = signal {
                restarts += 1;
                let signal = self.restarted(&next, restarts).await;
                boot = next;
                if self.messages.send(Message::Signal(signal)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = self.messages.closed() => return,
            }
        }
    }

    async fn restarted(&self, boot: &BootId, restarts: u32) -> Signal {
        if self.cluster.sandbox_ran_out_of_memory().await {
            return Signal::Failed(out_of_memory());
        }
        if restarts > RESTARTS_MAX {
            return Signal::Failed(Outcome {
                reason: Reason::SandboxLost,
                message: format!("The sandbox ended {restarts} times; the patch so far is kept."),
            });
        }
        match begin_agent_phase(&self.sandbox, boot, &self.attempt_uid, &self.network).await {
            Ok(_) => Signal::SandboxRestarted(boot.clone()),
            Err(outcome) => Signal::Failed(outcome),
        }
    }
}

/// How an attempt ends whose sandbox used too much memory.
pub(super) fn out_of_memory() -> Outcome {
    Outcome {
        reason: Reason::OutOfMemory,
        message: "The sandbox used more memory than its limit and was ended by the kernel; the patch so far is kept. \
                  Raise resources.limits.memory of the AgentEnvironment, or make the commands use less."
            .to_owned(),
    }
}
