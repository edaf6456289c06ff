//! The objects of an attempt, one file a kind. Nothing here asks anybody: the same input gives the same objects.

pub mod artifacts;
pub mod attempt;
pub mod finalizer;
pub mod pod;
pub mod role;
pub mod role_binding;
pub mod service_account;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;

use super::observed::Epoch;
use crate::api::AgentAttempt;
use crate::api::attempt::{Job, JobPod};
use crate::egress::address::Cidr;
use crate::names;

/// The image in which the agent runs: the controller's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentImage {
    /// Its reference.
    pub reference: String,
    /// When the kubelet pulls it: Always, IfNotPresent or Never.
    pub pull_policy: String,
    /// Networks to which its proxy lets no command although they are public.
    pub closed_networks: Vec<Cidr>,
}

/// An AgentAttempt that is stored, so that it can own things.
#[derive(Clone, Copy, Debug)]
pub struct StoredAttempt<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Name of its task.
    pub task_name: &'a str,
    /// UID of its task.
    pub task_uid: &'a str,
    /// Its number.
    pub index: i32,
    /// Which of its pods is built.
    pub epoch: Epoch,
    /// Its job.
    pub job: &'a Job,
}

/// Everything that an attempt owns. All of it is created once and never changed by the controller again: a new
/// version of the controller must not touch a running pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Takes the patch.
    pub patch: ConfigMap,
    /// Takes the transcript, when one is kept.
    pub transcript: Option<ConfigMap>,
    /// Hold what it goes on with, as far as the object store has it. Reading that is not building.
    pub brought: Vec<ConfigMap>,
    /// Who the agent is.
    pub service_account: ServiceAccount,
    /// What it may do.
    pub rights: Rights,
    /// Where it and the sandbox run.
    pub pod: Pod,
}

/// What an agent may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Rights {
    /// What may be done.
    pub role: Role,
    /// That the agent may.
    pub role_binding: RoleBinding,
}

impl<'a> StoredAttempt<'a> {
    /// Reads an AgentAttempt, to build one of its pods; none when it lacks what every stored object has.
    #[must_use]
    pub fn of(attempt: &'a AgentAttempt, epoch: Epoch) -> Option<Self> {
        Some(Self {
            namespace: attempt.metadata.namespace.as_deref()?,
            name: attempt.metadata.name.as_deref()?,
            uid: attempt.metadata.uid.as_deref()?,
            task_name: &attempt.spec.task_name,
            task_uid: &attempt.spec.task_uid,
            index: attempt.spec.index,
            epoch,
            job: &attempt.spec.job,
        })
    }

    /// Name of its pod, and of the pod's ServiceAccount, Role and RoleBinding.
    #[must_use]
    pub fn pod_name(&self) -> String {
        names::pod(self.task_name, self.task_uid, self.index, self.epoch.number())
    }
}

/// Builds everything that an attempt owns.
#[must_use]
pub fn children(attempt: &StoredAttempt<'_>, parts: &JobPod, agent: &AgentImage) -> Children {
    Children {
        patch: artifacts::patch(attempt),
        transcript: artifacts::transcript(attempt),
        brought: Vec::new(),
        service_account: service_account::service_account(attempt),
        rights: rights(attempt),
        pod: pod::pod(attempt, parts, agent),
    }
}

/// Builds the rights of an attempt's agent.
#[must_use]
pub fn rights(attempt: &StoredAttempt<'_>) -> Rights {
    Rights { role: role::role(attempt), role_binding: role_binding::role_binding(attempt) }
}

fn metadata(attempt: &StoredAttempt<'_>, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(attempt.namespace.to_owned()),
        labels: Some(labels(attempt.task_name, attempt.task_uid)),
        owner_references: Some(vec![owner::<AgentAttempt>(attempt.name, attempt.uid)]),
        ..ObjectMeta::default()
    }
}

/// Labels are for finding things; that they belong to the task, only the owner reference proves.
fn labels(task_name: &str, task_uid: &str) -> BTreeMap<String, String> {
    [
        (names::MANAGED_BY_LABEL, names::MANAGED_BY),
        (names::TASK_LABEL, task_name),
        (names::TASK_UID_LABEL, task_uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// A reference to the object that something belongs to and goes with.
fn owner<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[cfg(test)]
mod tests;
