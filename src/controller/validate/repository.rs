//! The repository of a task, and whether its credential may go there.

use url::{Host, Url};

use super::Problem;
use crate::api::task::{Mode, Repository};
use crate::api::{AgentTask, HOSTS_ANNOTATION};
use crate::controller::observed::{References, SecretFacts, TaskId};

pub(super) fn check_repository(
    repository: &Repository,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let url = match Url::parse(&repository.url) {
        Ok(url) => url,
        Err(error) => {
            problems.push(Problem::Wrong(format!(
                "the url of repository {} is no address: {error}; create a new task with a url such as https://git.example.com/team/app.git",
                repository.name
            )));
            return;
        }
    };
    let Some(host) = url.host() else {
        problems.push(Problem::Wrong(format!("the url of repository {} has no host", repository.name)));
        return;
    };
    let Some(name) = &repository.credentials_secret_name else { return };
    if url.scheme() == "http" && !is_of_cluster(&host) {
        problems.push(Problem::Wrong(format!(
            "the credential of repository {} would go over plain http to {host}; use https, http is for services of this cluster (*.svc) only",
            repository.name
        )));
    }
    let namespace = &id.namespace;
    let create = format!(
        "kubectl create secret generic {name} -n {namespace} --from-literal=username=USER --from-literal=password=TOKEN"
    );
    let annotate = format!("kubectl annotate secret {name} -n {namespace} {HOSTS_ANNOTATION}={host}");
    let Some(secret) = references.secrets.get(name) else {
        problems.push(Problem::Missing(format!(
            "Secret {name}, named by repository {}, does not exist; create it with: {create} && {annotate}",
            repository.name
        )));
        return;
    };
    if !(secret.has("token") || secret.has("username") && secret.has("password")) {
        problems.push(Problem::Wrong(format!(
            "Secret {name}, named by repository {}, has neither the keys username and password nor the key token; after kubectl delete secret {name} -n {namespace} it is created right with: {create} && {annotate}. Then create the task again",
            repository.name
        )));
    }
    check_hosts(name, secret, &url, &annotate, problems);
}

/// A review needs two ends that are not the same.
pub(super) fn check_review(task: &AgentTask, repository: &Repository, problems: &mut Vec<Problem>) {
    let base = task.spec.review.clone().unwrap_or_default().base;
    if task.spec.mode == Mode::Review && base == repository.reference {
        problems.push(Problem::Wrong(format!(
            "the review compares {base} with itself; name the branch to review in repositories[].ref of a new task, and the one that it is to be merged into in review.base"
        )));
    }
}

/// A Secret that a task names goes only where the Secret itself says: otherwise whoever may create a task could
/// send any Secret of the namespace to a host of his own.
fn check_hosts(name: &str, secret: &SecretFacts, url: &Url, annotate: &str, problems: &mut Vec<Problem>) {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let Some(hosts) = &secret.hosts else {
        problems.push(Problem::Wrong(format!(
            "Secret {name} does not say that it may be sent to {host}; allow it with: {annotate}. Then create the task again"
        )));
        return;
    };
    let mut allowed = hosts.split(',').map(str::trim);
    if !allowed.any(|entry| entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port)) {
        let both = format!("{HOSTS_ANNOTATION}={},{host}", hosts.replace(' ', ""));
        let annotate = annotate.replace(&format!("{HOSTS_ANNOTATION}={host}"), &both);
        problems.push(Problem::Wrong(format!(
            "Secret {name} may be sent to {hosts} but not to {host}; allow it with: {annotate} --overwrite. Then create the task again"
        )));
    }
}

/// Whether a host is a service of this cluster, to which the network path is the cluster's own.
pub(super) fn is_of_cluster(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.ends_with(".svc") || name.ends_with(".svc.cluster.local"),
        Host::Ipv4(_) | Host::Ipv6(_) => false,
    }
}
