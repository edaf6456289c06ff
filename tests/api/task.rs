//! What may be said in an AgentTask, and what of it may change.

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use podwright::api::AgentTask;
use serde_json::{Value, json};

use crate::cluster::TestNamespace;
use crate::definitions;

fn task(name: &str, spec: &Value) -> AgentTask {
    serde_json::from_value(json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec,
    }))
    .expect("a task")
}

fn spec(more: &Value) -> Value {
    let mut spec =
        json!({"prompt": "Mend it.", "repositories": [{"url": "https://git.example.com/team/app.git"}]});
    merge(&mut spec, more);
    spec
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().expect("an object") {
        match value {
            Value::Null => into.as_object_mut().expect("an object").remove(key),
            other => into.as_object_mut().expect("an object").insert(key.clone(), other.clone()),
        };
    }
}

pub(crate) fn inputs(count: usize) -> Vec<Value> {
    let input = |number| {
        let source = json!({"name": "files", "key": "a"});
        json!({"name": format!("file-{number}"), "mediaType": "text/plain", "configMapKeyRef": source})
    };
    (0..count).map(input).collect()
}

pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, words: &str, case: &str) {
    match result {
        Err(Error::Api(status)) => {
            assert!(status.message.contains(words), "{case}: refused, but with: {}", status.message);
        }
        other => panic!("{case}: not refused: {other:?}"),
    }
}

/// So many commands of a verification.
pub(crate) fn commands(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({"name": format!("c{number}"), "command": "true"})).collect()
}

pub(crate) fn reversed(mut list: Vec<Value>) -> Vec<Value> {
    list.reverse();
    list
}

/// What is sent as it is, without passing through our types.
async fn create(client: &Client, namespace: &str, name: &str, spec: &Value) -> Result<Value, Error> {
    let resource = kube::api::ApiResource::erase::<AgentTask>(&());
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = serde_json::from_value(json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": name}, "spec": spec,
    }))
    .expect("an object");
    let made = api.create(&PostParams::default(), &object).await?;
    Ok(serde_json::to_value(made).expect("JSON"))
}

#[tokio::test]
async fn defaults_are_in_the_stored_object() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-task").await;
    let made = create(&client, &namespace.name, "plain", &spec(&json!({}))).await.expect("taken");
    assert_eq!(made["status"], json!({"observedGeneration": -1}));
    assert_eq!(made["spec"]["environmentName"], "default");
    assert_eq!(made["spec"]["mode"], "Change");
    assert_eq!(made["spec"]["model"], json!({"providerName": "default", "outageSeconds": 1800}));
    assert_eq!(made["spec"]["limits"]["steps"], 200);
    assert_eq!(made["spec"]["limits"]["activeSeconds"], 7200);
    assert_eq!(made["spec"]["attempts"], json!({"count": 1, "selection": {"policy": "Manual"}}));
    let verified =
        spec(&json!({"attempts": {"selection": {"policy": "FirstVerified"}}, "verification": commands(8)}));
    let verified = create(&client, &namespace.name, "verified", &verified).await.expect("taken");
    assert_eq!(verified["spec"]["verification"][7]["timeoutSeconds"], 600);
    let further = spec(&json!({"continueFrom": {"taskName": "plain"}}));
    let further = create(&client, &namespace.name, "further", &further).await.expect("taken");
    assert_eq!(further["spec"]["continueFrom"], json!({"taskName": "plain"}), "the selected attempt");
    let repository = json!({"name": "main", "url": "https://git.example.com/team/app.git", "ref": "main",
        "fetch": "Shallow", "depth": 50});
    assert_eq!(made["spec"]["repositories"], json!([repository]));
    namespace.delete().await;
}

#[tokio::test]
async fn a_spec_that_cannot_work_is_refused_with_a_sentence() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-task").await;
    let repository = |more: Value| {
        let mut repository = json!({"url": "https://git.example.com/app.git"});
        merge(&mut repository, &more);
        json!({"repositories": [repository]})
    };
    let source = json!({"configMapKeyRef": {"name": "prompts", "key": "fix"}});
    let cases = [
        ("no prompt", json!({"prompt": null}), "exactly one of prompt and promptFrom"),
        ("two prompts", json!({"promptFrom": source}), "exactly one of prompt and promptFrom"),
        ("empty prompt", json!({"prompt": ""}), "at least 1 chars long"),
        ("long prompt", json!({"prompt": "x".repeat(32769)}), "may not be more than 32768"),
        ("no repository", json!({"repositories": []}), "at least 1 items"),
        (
            "ssh",
            repository(json!({"url": "ssh://git@git.example.com/app.git"})),
            "must be https:// or http://",
        ),
        (
            "scp form",
            repository(json!({"url": "git@git.example.com:app.git"})),
            "must be https:// or http://",
        ),
        ("file", repository(json!({"url": "file:///etc"})), "must be https:// or http://"),
        ("ext", repository(json!({"url": "ext::sh -c id"})), "must be https:// or http://"),
        ("user info", repository(json!({"url": "https://u:p@git.example.com/a"})), "without user info"),
        ("an option as ref", repository(json!({"ref": "--upload-pack=id"})), "should match"),
        ("a range as ref", repository(json!({"ref": "a^b"})), "should match"),
        ("a path as name", repository(json!({"name": "../etc"})), "should match"),
        ("fetch", repository(json!({"fetch": "Deep"})), "supported values"),
        ("depth", repository(json!({"depth": 0})), "greater than or equal to 1"),
        ("steps", json!({"limits": {"steps": 0}}), "greater than or equal to 1"),
        ("money", json!({"limits": {"cost": "5 dollars"}}), "should match"),
        ("patience", json!({"model": {"outageSeconds": -1}}), "greater than or equal to 0"),
        ("no attempt", json!({"attempts": {"count": 0}}), "greater than or equal to 1"),
        ("five attempts", json!({"attempts": {"count": 5}}), "less than or equal to 4"),
        ("policy", json!({"attempts": {"selection": {"policy": "Best"}}}), "supported values"),
        (
            "nothing to select by",
            json!({"attempts": {"count": 2, "selection": {"policy": "FirstVerified"}}}),
            "FirstVerified needs verification",
        ),
        (
            "an empty list to select by",
            json!({"attempts": {"selection": {"policy": "FirstVerified"}}, "verification": []}),
            "FirstVerified needs verification",
        ),
        (
            "nothing to verify",
            json!({"mode": "Review", "verification": [{"name": "test", "command": "true"}]}),
            "verification runs on a patch",
        ),
        ("no command", json!({"verification": [{"name": "test", "command": ""}]}), "at least 1 chars long"),
        ("nine commands", json!({"verification": commands(9)}), "must have at most 8 items"),
        (
            "a command's name",
            json!({"verification": [{"name": "Test 1", "command": "true"}]}),
            "should match",
        ),
        (
            "a name twice",
            json!({"verification": [{"name": "a", "command": "true"}, {"name": "a", "command": "false"}]}),
            "Duplicate value",
        ),
        (
            "no time",
            json!({"verification": [{"name": "a", "command": "true", "timeoutSeconds": 0}]}),
            "greater than or equal to 1",
        ),
        ("a mode", json!({"mode": "Plan"}), "supported values"),
        ("a base without a review", json!({"mode": "Ask", "review": {}}), "review is for mode Review alone"),
        ("a base without a mode", json!({"review": {"base": "main"}}), "review is for mode Review alone"),
        ("a range as base", json!({"mode": "Review", "review": {"base": "a..b^"}}), "should match"),
        ("a schema from nowhere", json!({"output": {}}), "schemaFrom"),
        (
            "an input with a path as name",
            json!({"inputs": [{"name": "a/b", "mediaType": "text/plain", "configMapKeyRef": {"name": "m", "key": "k"}}]}),
            "should match",
        ),
        (
            "an input of no type",
            json!({"inputs": [{"name": "a", "mediaType": "text", "configMapKeyRef": {"name": "m", "key": "k"}}]}),
            "should match",
        ),
        ("nine inputs", json!({"inputs": inputs(9)}), "at most 8 items"),
        (
            "the fifth attempt",
            json!({"continueFrom": {"taskName": "a", "attempt": 5}}),
            "less than or equal to 4",
        ),
        ("itself", json!({"continueFrom": {"taskName": "refused"}}), "continueFrom names the task itself"),
    ];
    for (case, more, words) in cases {
        let result = create(&client, &namespace.name, "refused", &spec(&more)).await;
        assert_refused(result, words, case);
    }
    let long = "t".repeat(41);
    assert_refused(
        create(&client, &namespace.name, &long, &spec(&json!({}))).await,
        "at most 40",
        "long name",
    );
    assert_refused(
        create(&client, &namespace.name, "a.b", &spec(&json!({}))).await,
        "at most 40",
        "dotted name",
    );
    let mut bare = json!({"apiVersion": "podwright.dev/v1alpha1", "kind": "AgentTask"});
    bare["metadata"] = json!({"name": "bare"});
    let resource = kube::api::ApiResource::erase::<AgentTask>(&());
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), &namespace.name, &resource);
    let bare = serde_json::from_value(bare).expect("an object");
    assert_refused(api.create(&PostParams::default(), &bare).await, "spec", "no spec");
    namespace.delete().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-task").await;
    let api: Api<AgentTask> = Api::namespaced(client.clone(), &namespace.name);
    let object = json!({
        "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "typo"},
        "spec": spec(&json!({"modle": {"name": "x"}})),
    });
    let mut params = PatchParams::apply("kubectl");
    params.field_validation = Some(kube::api::ValidationDirective::Strict);
    let result = api.patch("typo", &params, &Patch::Apply(&object)).await;
    assert_refused(result, "modle", "unknown field");
    namespace.delete().await;
}

/// The rules that look right, `self == oldSelf` on a field, accept adding, dropping and adding again: transition rules
/// do not run when either side is absent. Most cases here got through such rules, and those that only change an order
/// through the ones that came after: lists with keys are equal in whatever order.
#[tokio::test]
async fn nothing_of_the_work_can_change() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-task").await;
    let api: Api<AgentTask> = Api::namespaced(client.clone(), &namespace.name);
    let second = json!({"name": "second", "url": "https://git.example.com/team/lib.git"});
    let from = json!({"configMapKeyRef": {"name": "prompts", "key": "fix"}});
    let with = json!({"instructions": "Be brief.", "model": {"name": "large"}});
    let cases = [
        ("an entry replaced", json!({}), json!({"repositories": [second]}), "repositories can't be changed"),
        (
            "an optional field added",
            json!({}),
            json!({"instructions": "Be brief."}),
            "instructions can't be changed",
        ),
        (
            "an optional field removed",
            with.clone(),
            json!({"instructions": null}),
            "instructions can't be changed",
        ),
        (
            "an optional field changed",
            with.clone(),
            json!({"instructions": "Be long."}),
            "instructions can't be changed",
        ),
        ("a nested field removed", with, json!({"model": {}}), "model can't be changed"),
        ("the prompt removed", json!({}), json!({"prompt": null}), "prompt can't be changed"),
        (
            "the prompt swapped",
            json!({}),
            json!({"prompt": null, "promptFrom": from}),
            "prompt can't be changed",
        ),
        ("the prompt changed", json!({}), json!({"prompt": "Break it."}), "prompt can't be changed"),
        (
            "another environment",
            json!({}),
            json!({"environmentName": "large"}),
            "environmentName can't be changed",
        ),
        ("a limit raised", json!({}), json!({"limits": {"steps": 201}}), "limits can't be changed"),
        ("another mode", json!({}), json!({"mode": "Ask"}), "mode can't be changed"),
        (
            "another base",
            json!({"mode": "Review"}),
            json!({"review": {"base": "next"}}),
            "review can't be changed",
        ),
        (
            "a form for the answer",
            json!({}),
            json!({"output": {"schemaFrom": from}}),
            "output can't be changed",
        ),
        (
            "an input added",
            json!({"inputs": inputs(1)}),
            json!({"inputs": inputs(2)}),
            "inputs can't be changed",
        ),
        (
            "the inputs dropped",
            json!({"inputs": inputs(1)}),
            json!({"inputs": null}),
            "inputs can't be changed",
        ),
        (
            "the inputs in another order",
            json!({"inputs": inputs(2)}),
            json!({"inputs": reversed(inputs(2))}),
            "inputs can't be changed",
        ),
        (
            "another task to go on with",
            json!({"continueFrom": {"taskName": "a"}}),
            json!({"continueFrom": {"taskName": "b"}}),
            "continueFrom can't be changed",
        ),
        ("other tools", json!({}), json!({"tools": {"mcpServers": []}}), "tools can't be changed"),
        ("longer idle", json!({}), json!({"idle": {"keepSeconds": 60}}), "idle can't be changed"),
        ("more attempts", json!({}), json!({"attempts": {"count": 2}}), "attempts can't be changed"),
        (
            "a verification added",
            json!({}),
            json!({"verification": commands(1)}),
            "verification can't be changed",
        ),
        (
            "a command in front",
            json!({"verification": commands(2)[1..]}),
            json!({"verification": commands(2)}),
            "verification can't be changed",
        ),
        (
            "commands in another order",
            json!({"verification": commands(2)}),
            json!({"verification": reversed(commands(2))}),
            "verification can't be changed",
        ),
        (
            "a verification dropped",
            json!({"verification": commands(1)}),
            json!({"verification": null}),
            "verification can't be changed",
        ),
        (
            "a verification replaced",
            json!({"verification": commands(2)}),
            json!({"verification": [{"name": "c0", "command": "true"}, {"name": "c9", "command": "true"}]}),
            "verification can't be changed",
        ),
    ];
    for (index, (case, before, change, words)) in cases.into_iter().enumerate() {
        let name = format!("case-{index}");
        api.create(&PostParams::default(), &task(&name, &spec(&before))).await.expect(case);
        let resource = kube::api::ApiResource::erase::<AgentTask>(&());
        let raw: Api<kube::api::DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace.name, &resource);
        // A controller that serves this namespace writes the status meanwhile: a conflict says nothing of the rules.
        let mut result = None;
        for _ in 0..20 {
            let mut object = raw.get(&name).await.expect("it is there");
            merge(&mut object.data["spec"], &change);
            let answer = raw.replace(&name, &PostParams::default(), &object).await;
            let conflict = matches!(&answer, Err(Error::Api(status)) if status.code == 409);
            result = Some(answer);
            if !conflict {
                break;
            }
        }
        assert_refused(result.expect("an answer"), words, case);
    }
    namespace.delete().await;
}

#[tokio::test]
async fn suspension_and_retention_can_change() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-task").await;
    let api: Api<AgentTask> = Api::namespaced(client.clone(), &namespace.name);
    api.create(&PostParams::default(), &task("free", &spec(&json!({})))).await.expect("taken");
    for change in [
        json!({"suspend": true}),
        json!({"suspend": false}),
        json!({"retention": {"podSeconds": 60, "artifactSeconds": 3600}}),
        json!({"ttlSecondsAfterFinished": 60}),
        json!({"ttlSecondsAfterFinished": null}),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        api.patch("free", &PatchParams::default(), &patch).await.expect("a change that is allowed");
    }
    namespace.delete().await;
}
