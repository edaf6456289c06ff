//! An API server in memory, as far as the controller needs one: create, get, list, apply, delete, owners and
//! preconditions. It can lose a request, or the answer to one.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::service_fn;

use super::fixtures::at;

/// Seconds that a pod has to end by itself.
const GRACE: i64 = 30;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    LostRequest,
    /// It takes effect, and nobody learns of it.
    LostAnswer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) resource: String,
    pub(crate) name: String,
}

/// What was stored under a name, or that nothing is any more.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
    /// Whether a client did it, and not the test itself.
    pub(crate) asked_for: bool,
}

/// How the server deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// At once, together with all that the object owned.
    #[default]
    AtOnce,
    /// As a cluster does: a pod stays until its kubelet is done with it, and what an object owned until the garbage
    /// collector comes.
    Lingering,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    asked: Vec<Asked>,
    versions: u64,
    fault: Option<(usize, Fault)>,
    refusal: Option<(String, Value)>,
    deletion: Deletion,
    /// The present second, for what is created.
    now: i64,
    /// Everything that was ever stored. Kept only where deletions linger.
    changes: Vec<Change>,
    is_asked: bool,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Stores an object as if somebody had created it.
    pub(crate) fn put(&self, resource: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.stamp(&mut object);
        state.store((resource.into(), name), object);
    }

    /// Changes a stored object as if somebody had.
    pub(crate) fn change(&self, resource: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock().unwrap();
        let mut object = state.objects[&(resource.into(), name.into())].clone();
        change(&mut object);
        state.stamp(&mut object);
        state.store((resource.into(), name.into()), object);
    }

    /// Deletes an object as if somebody had.
    pub(crate) fn remove(&self, resource: &str, name: &str) {
        self.0.lock().unwrap().remove(resource, name);
    }

    pub(crate) fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(&(resource.into(), name.into())).cloned()
    }

    /// Everything stored, without what differs from run to run. Events are left out.
    pub(crate) fn masked(&self) -> BTreeMap<(String, String), Value> {
        let mut objects = self.0.lock().unwrap().objects.clone();
        objects.retain(|(resource, _), _| resource != "events");
        for object in objects.values_mut() {
            mask(object);
        }
        objects
    }

    /// All objects of a resource, decoded.
    pub(crate) fn all<K: DeserializeOwned>(&self, resource: &str) -> Vec<K> {
        let state = self.0.lock().unwrap();
        let objects = state.objects.iter().filter(|((kind, _), _)| kind == resource);
        objects.map(|(_, object)| serde_json::from_value(object.clone()).unwrap()).collect()
    }

    pub(crate) fn names(&self, resource: &str) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.objects.keys().filter(|(kind, _)| kind == resource).map(|(_, name)| name.clone()).collect()
    }

    /// Requests since the last call.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    pub(crate) fn asked_count(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }

    /// The `nth` request from now on, counted from 0, meets a fault.
    pub(crate) fn fail(&self, nth: usize, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        let at = state.asked.len() + nth;
        state.fault = Some((at, fault));
    }

    /// Answers every creation of a pod with this status, or with none of that any more.
    pub(crate) fn refuse_pods(&self, refusal: Option<Value>) {
        self.refuse("pods", refusal);
    }

    /// The same for a resource.
    pub(crate) fn refuse(&self, resource: &str, refusal: Option<Value>) {
        self.0.lock().unwrap().refusal = refusal.map(|refusal| (resource.to_owned(), refusal));
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let call = Call::read(request).await;
        let fault = {
            let state = self.0.lock().unwrap();
            let place = state.asked.len();
            state.fault.filter(|(at, _)| *at == place).map(|(_, fault)| fault)
        };
        respond(&self.meet(&call, fault))
    }

    /// Answers a request, unless that or the answer gets lost.
    pub(crate) fn meet(&self, call: &Call, fault: Option<Fault>) -> Value {
        let mut state = self.0.lock().unwrap();
        state.asked.push(call.asked.clone());
        let lost = failure(500, "InternalError", "lost");
        if fault == Some(Fault::LostRequest) {
            return lost;
        }
        state.is_asked = true;
        let answer = state.perform(call);
        state.is_asked = false;
        if fault == Some(Fault::LostAnswer) { lost } else { answer }
    }

    /// Deletes from now on as a cluster does.
    pub(crate) fn linger(&self) {
        self.0.lock().unwrap().deletion = Deletion::Lingering;
    }

    pub(crate) fn now(&self) -> i64 {
        self.0.lock().unwrap().now
    }

    pub(crate) fn set_now(&self, second: i64) {
        self.0.lock().unwrap().now = second;
    }

    /// What was stored, from the `from`th change on.
    pub(crate) fn changes(&self, from: usize) -> Vec<Change> {
        self.0.lock().unwrap().changes[from..].to_vec()
    }

    pub(crate) fn changes_count(&self) -> usize {
        self.0.lock().unwrap().changes.len()
    }

    /// Deletes for good, as the kubelet does with a pod of which nothing runs any more.
    pub(crate) fn finish(&self, resource: &str, name: &str) {
        self.0.lock().unwrap().discard(&(resource.into(), name.into()));
    }

    /// Deletes what belongs only to objects that are gone. Says whether there was any.
    pub(crate) fn collect_garbage(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let uids: BTreeSet<String> = state
            .objects
            .values()
            .filter_map(|object| object["metadata"]["uid"].as_str())
            .map(str::to_owned)
            .collect();
        let is_garbage = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.is_some_and(|owners| {
                !owners.is_empty()
                    && owners.iter().all(|owner| !uids.contains(owner["uid"].as_str().unwrap()))
            })
        };
        let garbage: Vec<_> = state
            .objects
            .iter()
            .filter(|(_, object)| is_garbage(object) && object["metadata"]["deletionTimestamp"].is_null())
            .map(|(key, _)| key.clone())
            .collect();
        garbage.iter().for_each(|(resource, name)| state.remove(resource, name));
        !garbage.is_empty()
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) asked: Asked,
    path: Path,
    query: String,
    merges: bool,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = Path::read(head.uri.path());
        Self {
            asked: Asked { method: head.method, resource: path.resource.clone(), name: path.name.clone() },
            path,
            query: head.uri.query().unwrap_or_default().to_owned(),
            merges: head
                .headers
                .get("content-type")
                .is_some_and(|type_| type_ == "application/merge-patch+json"),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }
}

#[derive(Clone, Debug)]
struct Path {
    resource: String,
    name: String,
    subresource: String,
}

impl Path {
    fn read(path: &str) -> Self {
        let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Self { resource: next(), name: next(), subresource: next() }
    }

    fn key(&self) -> (String, String) {
        (self.resource.clone(), self.name.clone())
    }
}

impl State {
    fn perform(&mut self, call: &Call) -> Value {
        let Call { path, query, body, .. } = call;
        match call.asked.method {
            Method::GET if path.name.is_empty() => self.list(path, query),
            Method::GET => self.read(path),
            Method::POST => self.create(path, body.clone()),
            Method::PATCH if call.merges => self.merge(path, body),
            Method::PATCH => self.apply(path, body),
            Method::DELETE => self.delete(path, body),
            ref other => panic!("nobody sends {other}"),
        }
    }

    fn store(&mut self, key: (String, String), object: Value) {
        let before = self.objects.insert(key.clone(), object);
        self.note(key, before);
    }

    fn discard(&mut self, key: &(String, String)) -> Option<Value> {
        let before = self.objects.remove(key);
        if before.is_some() {
            self.note(key.clone(), before.clone());
        }
        before
    }

    fn note(&mut self, key: (String, String), before: Option<Value>) {
        if self.deletion == Deletion::AtOnce {
            return;
        }
        let after = self.objects.get(&key).cloned().map(Arc::new);
        if before.as_ref() == after.as_deref() {
            return;
        }
        let (resource, name) = key;
        let asked_for = self.is_asked;
        self.changes.push(Change { resource, name, before: before.map(Arc::new), after, asked_for });
    }

    fn stamp(&mut self, object: &mut Value) {
        self.versions += 1;
        let version = self.versions;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{version}"));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!(at(self.now).to_string());
        }
    }

    fn list(&self, path: &Path, query: &str) -> Value {
        let wanted = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldSelector=spec.taskName%3D"))
            .expect("lists are of messages to one task");
        let number = |field: &str| {
            let mut pairs = query.split('&');
            pairs.find_map(|pair| pair.strip_prefix(field)?.strip_prefix('=')?.parse::<usize>().ok())
        };
        let (from, limit) = (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let mut items = self
            .objects
            .iter()
            .filter(|((resource, _), object)| {
                *resource == path.resource && object["spec"]["taskName"] == wanted
            })
            .map(|(_, object)| object)
            .skip(from);
        let page: Vec<&Value> = items.by_ref().take(limit).collect();
        let rest = items.next().map(|_| (from + limit).to_string());
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"continue": rest}, "items": page})
    }

    fn read(&self, path: &Path) -> Value {
        self.objects.get(&path.key()).cloned().unwrap_or_else(|| failure(404, "NotFound", "not there"))
    }

    fn create(&mut self, path: &Path, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if let Some(refusal) = self.refused(path) {
            return refusal;
        }
        if self.objects.contains_key(&(path.resource.clone(), name.clone())) {
            return failure(409, "AlreadyExists", "there already");
        }
        self.stamp(&mut object);
        self.store((path.resource.clone(), name), object.clone());
        object
    }

    fn refused(&self, path: &Path) -> Option<Value> {
        let (resource, refusal) = self.refusal.as_ref()?;
        (*resource == path.resource).then(|| refusal.clone())
    }

    fn apply(&mut self, path: &Path, patch: &Value) -> Value {
        let stored = self.objects.get(&path.key()).cloned();
        let wanted = &patch["metadata"];
        let fits = |field: &str| {
            let stored = stored.as_ref().map_or(&Value::Null, |stored| &stored["metadata"][field]);
            wanted[field].is_null() || wanted[field] == *stored
        };
        if !fits("uid") || !fits("resourceVersion") {
            return failure(409, "Conflict", "another object, or another version");
        }
        let Some(mut object) = stored else {
            if !path.subresource.is_empty() {
                return failure(404, "NotFound", "not there");
            }
            if let Some(refusal) = self.refused(path) {
                return refusal;
            }
            let mut object = patch.clone();
            self.stamp(&mut object);
            self.store(path.key(), object.clone());
            return object;
        };
        let before = object.clone();
        if path.subresource == "status" {
            object["status"] = patch["status"].clone();
        } else {
            if !patch["spec"].is_null() {
                object["spec"] = patch["spec"].clone();
            }
            for (field, value) in wanted.as_object().unwrap() {
                object["metadata"][field] = value.clone();
            }
        }
        // An apply that changes nothing makes no new version.
        if object != before {
            self.stamp(&mut object);
        }
        self.store(path.key(), object.clone());
        object
    }

    fn merge(&mut self, path: &Path, patch: &Value) -> Value {
        let Some(mut object) = self.objects.get(&path.key()).cloned() else {
            return failure(404, "NotFound", "not there");
        };
        if patch["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return failure(409, "Conflict", "another version");
        }
        merge(&mut object, patch);
        self.stamp(&mut object);
        self.store(path.key(), object.clone());
        if !object["metadata"]["deletionTimestamp"].is_null() {
            self.remove(&path.resource, &path.name);
        }
        object
    }

    fn delete(&mut self, path: &Path, options: &Value) -> Value {
        let Some(stored) = self.objects.get(&path.key()) else {
            return failure(404, "NotFound", "not there");
        };
        let uid = &options["preconditions"]["uid"];
        assert!(!uid.is_null(), "every deletion names the UID it means");
        if *uid != stored["metadata"]["uid"] {
            return failure(409, "Conflict", "another object");
        }
        self.remove(&path.resource, &path.name);
        json!({"apiVersion": "v1", "kind": "Status", "status": "Success"})
    }

    /// Removes an object, and what it owns; or marks it, where deletions linger, or as long as it has finalizers.
    fn remove(&mut self, resource: &str, name: &str) {
        let key = (resource.to_owned(), name.to_owned());
        if let Some(mut held) = self.objects.get(&key).cloned()
            && held["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty())
        {
            held["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
            self.stamp(&mut held);
            self.store(key, held);
            return;
        }
        if self.deletion == Deletion::Lingering {
            match self.objects.get(&key).cloned() {
                Some(mut pod) if resource == "pods" => {
                    if pod["metadata"]["deletionTimestamp"].is_null() {
                        pod["metadata"]["deletionTimestamp"] = json!(at(self.now + GRACE).to_string());
                        self.stamp(&mut pod);
                        self.store(key, pod);
                    }
                }
                _ => drop(self.discard(&key)),
            }
            return;
        }
        let Some(removed) = self.discard(&key) else { return };
        let uid = removed["metadata"]["uid"].clone();
        let owned: Vec<_> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for (resource, name) in owned {
            self.remove(&resource, &name);
        }
    }
}

pub(crate) fn respond(answer: &Value) -> Response<Body> {
    let failed = answer["kind"] == "Status" && answer["status"] == "Failure";
    let code = if failed { answer["code"].as_u64().unwrap() } else { 200 };
    Response::builder()
        .status(u16::try_from(code).unwrap())
        .body(Body::from(serde_json::to_vec(answer).unwrap()))
        .unwrap()
}

pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": message,
    })
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            patch.iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// Takes out what differs from run to run: versions, and UIDs that the server gave.
fn mask(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("resourceVersion");
            object.remove("uid");
            for (key, value) in object {
                // Users are numbered by the attempt's UID.
                if ["runAsUser", "runAsGroup", "fsGroup", "podwright.dev/attempt-uid"].contains(&key.as_str())
                {
                    *value = json!("masked");
                }
                mask(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
