//! What can go wrong in a pass, one enum a step. An error here is never the task's own failure: the pass is
//! made again, later and later, until it goes through.

use std::time::Duration;

use kube::core::Status;

use crate::artifacts::StoreError;

/// A request to the API server that brought no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No answer in time. Whether the request took effect is unknown.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
    /// An error answer, or none.
    #[error("{}", words(.0))]
    Kube(#[source] Box<kube::Error>),
}

/// kube's own text of an error answer has the whole answer in it twice.
fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({} {})", status.message, status.code, status.reason);
    }
    error.to_string()
}

impl RequestError {
    /// The API server's own words, when it answered.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        if let Self::Kube(error) = self
            && let kube::Error::Api(status) = error.as_ref()
        {
            return Some(status);
        }
        None
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// Whether the object is not the one the request was meant for, or has changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// Whether an object of that name was there already.
    #[must_use]
    pub fn is_already_there(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// Whether the namespace is being deleted, so that nothing can be made in it any more.
    #[must_use]
    pub fn is_namespace_ending(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
        causes.is_some_and(|causes| causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
    }

    /// Whether the API server has understood the request and turned it down, so that it would do so again.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| (400..500).contains(&status.code) && status.code != 429)
    }

    /// How long the API server asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}

/// Reading the world failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A read failed.
    #[error("cannot read {kind} {name}: {source}")]
    Read {
        /// Kind of the object, or of the list.
        kind: &'static str,
        /// Its name, or what the list was of.
        name: String,
        /// Why.
        source: RequestError,
    },
    /// An object that the pass needs does not fit our types: most likely it was stored with a newer version's
    /// definitions.
    #[error("this version of Podwright can't read {kind} {name}: {fault}")]
    Unreadable {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Where it does not fit.
        fault: String,
    },
    /// The object store did not answer as it should.
    #[error(transparent)]
    Store(StoreError),
    /// The object in the API server is another one than the one the pass was for.
    #[error("the AgentTask was deleted")]
    Gone,
}

/// An object carries a name that the task needs, and belongs to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} {name} has a name that this task needs and does not belong to it; delete it (kubectl delete {kind} {name}), or create the task under another name"
)]
pub struct Foreign {
    /// Kind of the object.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
}

/// Changing the world failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A write failed.
    #[error("cannot {verb} {kind} {name}: {source}")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: RequestError,
    },
    /// An object that the task needs is somebody else's.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The API server answered with an object that lacks what every stored object has.
    #[error("the API server returned {kind} {name} without {field}")]
    Incomplete {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is missing.
        field: &'static str,
    },
}

/// Writing the status failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the status: {0}")]
pub struct StatusError(#[source] pub RequestError);

/// A pass did not go through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`ObserveError`].
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// See [`ApplyError`].
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// See [`StatusError`].
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A fault of our own, caught at the edge of the pass so that it ends no other task's work.
    #[error("a fault of Podwright's own, please report it: {0}")]
    Panicked(String),
    /// The object lacks what every stored one has.
    #[error("the object has no name, namespace or UID")]
    Incomplete,
}

impl Error {
    /// A fixed word for metrics and events.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Observe(ObserveError::Read { .. }) => "ReadFailed",
            Self::Observe(ObserveError::Unreadable { .. }) | Self::Incomplete => "Undecodable",
            Self::Observe(ObserveError::Gone) => "Gone",
            Self::Observe(ObserveError::Store(_)) => "StoreFailed",
            Self::Apply(ApplyError::Foreign(_)) => "ForeignObject",
            Self::Apply(ApplyError::Write { .. } | ApplyError::Incomplete { .. }) => "WriteFailed",
            Self::Status(_) => "StatusWriteFailed",
            Self::Panicked(_) => "Panicked",
        }
    }

    /// The failed request, when it was one.
    #[must_use]
    pub const fn request(&self) -> Option<&RequestError> {
        match self {
            Self::Observe(ObserveError::Read { source, .. })
            | Self::Apply(ApplyError::Write { source, .. }) => Some(source),
            Self::Status(StatusError(source)) => Some(source),
            Self::Observe(ObserveError::Gone | ObserveError::Store(_) | ObserveError::Unreadable { .. })
            | Self::Apply(ApplyError::Foreign(_) | ApplyError::Incomplete { .. })
            | Self::Panicked(_)
            | Self::Incomplete => None,
        }
    }
}
