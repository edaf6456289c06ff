//! What the API server's refusal of a pod means for its task.

use kube::core::Status;

/// What a refusal means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The quota has no room now; it may later.
    Quota(String),
    /// Admission or pod security refuses this pod, and would again.
    Admission(String),
    /// The pod that the environment asks for is no valid pod.
    Invalid(String),
}

/// Reads a refusal; none when it says nothing about the pod itself, so that the pass is simply made again.
///
/// The API server has one code (403) for quota, pod security, admission policies and the caller's own rights,
/// and tells them apart in words only. These words are the ones that Kubernetes' own controllers match.
#[must_use]
pub fn refusal(status: &Status) -> Option<Refusal> {
    let message = &status.message;
    // Webhooks choose their own code (400 unless they say otherwise), admission policies answer 422.
    if message.contains(" denied the request") || message.contains(" denied request") {
        return Some(Refusal::Admission(message.clone()));
    }
    if status.is_invalid() {
        return Some(Refusal::Invalid(message.clone()));
    }
    if !status.is_forbidden() || is_passing(message) {
        return None;
    }
    if message.contains("exceeded quota") {
        return Some(Refusal::Quota(message.clone()));
    }
    Some(Refusal::Admission(message.clone()))
}

/// Refusals that have nothing to do with the pod: the controller's own rights, the ServiceAccount not seen yet
/// by this API server, a namespace that is being deleted.
fn is_passing(message: &str) -> bool {
    message.contains(" cannot create resource ")
        || message.contains("error looking up service account")
        || message.contains("because it is being terminated")
        || message.contains("not yet ready to handle request")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn each_refusal_is_told_apart() {
        let quota = "pods \"pw-a\" is forbidden: exceeded quota: team, requested: pods=1, used: pods=4, limited: pods=4";
        let security =
            "pods \"pw-a\" is forbidden: violates PodSecurity \"restricted:latest\": seccompProfile";
        let webhook = "admission webhook \"policy.example.com\" denied the request: no";
        let policy =
            "pods \"pw-a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no";
        let rights = "pods is forbidden: User \"system:serviceaccount:a:b\" cannot create resource \"pods\" in API group \"\"";
        let account = "pods \"pw-a\" is forbidden: error looking up service account x/pw-a: serviceaccount \"pw-a\" not found";
        let ending = "pods \"pw-a\" is forbidden: unable to create new content in namespace x because it is being terminated";
        let read = |code, reason, message| refusal(&status(code, reason, message));
        assert_eq!(read(403, "Forbidden", quota), Some(Refusal::Quota(quota.into())));
        assert_eq!(read(403, "Forbidden", security), Some(Refusal::Admission(security.into())));
        assert_eq!(read(400, "BadRequest", webhook), Some(Refusal::Admission(webhook.into())));
        assert_eq!(read(422, "Invalid", policy), Some(Refusal::Admission(policy.into())));
        assert_eq!(read(422, "Invalid", "Pod is invalid"), Some(Refusal::Invalid("Pod is invalid".into())));
        assert_eq!(read(403, "Forbidden", rights), None);
        assert_eq!(read(403, "Forbidden", account), None);
        assert_eq!(read(403, "Forbidden", ending), None);
        assert_eq!(read(500, "InternalError", "failed calling webhook"), None);
        assert_eq!(read(429, "TooManyRequests", "slow down"), None);
    }
}
