//! An API server in memory, as far as the controller needs one: create, get, list, apply, delete, owners and
//! preconditions. It can lose a request, or the answer to one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::service_fn;

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

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    asked: Vec<Asked>,
    versions: u64,
    fault: Option<(usize, Fault)>,
    refusal: Option<(String, Value)>,
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
        state.objects.insert((resource.into(), name), object);
    }

    /// Changes a stored object as if somebody had.
    pub(crate) fn change(&self, resource: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock().unwrap();
        let mut object = state.objects[&(resource.into(), name.into())].clone();
        change(&mut object);
        state.stamp(&mut object);
        state.objects.insert((resource.into(), name.into()), object);
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
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut state = self.0.lock().unwrap();
        let path = Path::read(head.uri.path());
        state.asked.push(Asked {
            method: head.method.clone(),
            resource: path.resource.clone(),
            name: path.name.clone(),
        });
        let place = state.asked.len() - 1;
        let fault = state.fault.filter(|(at, _)| *at == place).map(|(_, fault)| fault);
        if fault == Some(Fault::LostRequest) {
            return respond(&failure(500, "InternalError", "lost"));
        }
        let query = head.uri.query().unwrap_or_default();
        let answer = match head.method {
            Method::GET if path.name.is_empty() => state.list(&path, query),
            Method::GET => state.read(&path),
            Method::POST => state.create(&path, body),
            Method::PATCH if head.headers["content-type"] == "application/merge-patch+json" => {
                state.merge(&path, &body)
            }
            Method::PATCH => state.apply(&path, &body),
            Method::DELETE => state.delete(&path, &body),
            other => panic!("nobody sends {other}"),
        };
        if fault == Some(Fault::LostAnswer) {
            return respond(&failure(500, "InternalError", "lost"));
        }
        respond(&answer)
    }
}

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
    fn stamp(&mut self, object: &mut Value) {
        self.versions += 1;
        let version = self.versions;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{version}"));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
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
        self.objects.insert((path.resource.clone(), name), object.clone());
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
            self.objects.insert(path.key(), object.clone());
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
        self.objects.insert(path.key(), object.clone());
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
        self.objects.insert(path.key(), object.clone());
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

    /// Removes an object, and what it owns; one with finalizers only when it has none any more.
    fn remove(&mut self, resource: &str, name: &str) {
        if let Some(mut held) = self.objects.get(&(resource.to_owned(), name.to_owned())).cloned()
            && held["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty())
        {
            held["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
            self.stamp(&mut held);
            self.objects.insert((resource.to_owned(), name.to_owned()), held);
            return;
        }
        let Some(removed) = self.objects.remove(&(resource.to_owned(), name.to_owned())) else { return };
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

fn respond(answer: &Value) -> Response<Body> {
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
