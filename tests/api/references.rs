//! What may be said in an AgentEnvironment and a ModelProvider.

use kube::api::{Api, DynamicObject, PostParams};
use kube::{Client, Error};
use podwright::api::{AgentEnvironment, ModelProvider};
use serde_json::{Value, json};

use crate::cluster::TestNamespace;
use crate::definitions;
use crate::task::assert_refused;

async fn create<K: kube::Resource<DynamicType = ()>>(
    client: &Client,
    namespace: &str,
    spec: Value,
) -> Result<DynamicObject, Error> {
    let resource = kube::api::ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let object = json!({"apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {"generateName": "x-"}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(object).expect("an object")).await
}

#[tokio::test]
async fn environments_take_quantities_as_pods_do() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-refs").await;
    let resources = json!({"requests": {"cpu": 2, "memory": "1.5Gi"}, "limits": {"memory": "8Gi"}});
    let made =
        create::<AgentEnvironment>(&client, &namespace.name, json!({"image": "i", "resources": resources}))
            .await;
    let spec = &made.expect("taken").data["spec"];
    assert_eq!(spec["network"]["mode"], "None");
    assert_eq!(spec["workspace"]["size"], "10Gi");
    let cases = [
        ("quantity", json!({"image": "i", "resources": {"requests": {"cpu": "lots"}}}), "should match"),
        ("network", json!({"image": "i", "network": {"mode": "Open"}}), "supported values"),
        ("no image", json!({}), "image"),
        ("variable", json!({"image": "i", "env": [{"name": "A-B"}]}), "should match"),
        ("twice", json!({"image": "i", "env": [{"name": "A"}, {"name": "A"}]}), "Duplicate value"),
    ];
    for (case, spec, words) in cases {
        assert_refused(create::<AgentEnvironment>(&client, &namespace.name, spec).await, words, case);
    }
    namespace.delete().await;
}

#[tokio::test]
async fn a_network_is_none_a_list_of_names_or_all_that_is_public() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-refs").await;
    let with = |network: Value| json!({"image": "i", "network": network});
    let names =
        ["example.com", "*.a-b.example.com", "example.com:8443", "xn--bcher-kva.example", "1.example.com"];
    for good in [
        json!({"mode": "Allowlist", "names": names}),
        json!({"mode": "Allowlist", "presets": ["Python", "Go"], "methods": "ReadOnly"}),
        json!({"mode": "Full"}),
        json!({"mode": "Full", "methods": "All"}),
        json!({"mode": "None"}),
    ] {
        let made = create::<AgentEnvironment>(&client, &namespace.name, with(good.clone())).await;
        assert_eq!(made.expect("taken").data["spec"]["network"], good);
    }
    let list = |name: &str| json!({"mode": "Allowlist", "names": [name]});
    let mut cases = vec![
        (json!({"mode": "Allowlist"}), "needs names or presets"),
        (json!({"mode": "Allowlist", "names": [], "presets": []}), "needs names or presets"),
        (json!({"mode": "Full", "names": ["example.com"]}), "go with mode Allowlist"),
        (json!({"presets": ["Go"]}), "go with mode Allowlist"),
        (json!({"mode": "None", "methods": "ReadOnly"}), "methods go with"),
        (json!({"mode": "Allowlist", "presets": ["Everything"]}), "supported values"),
        (json!({"mode": "Allowlist", "names": ["a.example", "a.example"]}), "Duplicate value"),
    ];
    let wrong = [
        "*",
        "*.com",
        "com",
        "localhost",
        "10.0.0.1",
        "Example.com",
        "https://a.example",
        "a.example/x",
        "a.*.b",
    ];
    cases.extend(wrong.map(|name| (list(name), "should match")));
    for (network, words) in cases {
        let case = network.to_string();
        assert_refused(
            create::<AgentEnvironment>(&client, &namespace.name, with(network)).await,
            words,
            &case,
        );
    }
    namespace.delete().await;
}

#[tokio::test]
async fn mcp_servers_are_programs_or_addresses() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-refs").await;
    let with = |servers: Value| json!({"image": "i", "mcpServers": servers});
    let good = json!([
        {"name": "docs", "stdio": {"command": "npx", "args": ["docs"], "env": [{"name": "A", "value": "b"}]}},
        {"name": "issues", "http": {"url": "https://mcp.example.com/mcp?team=a", "credentialsSecretName": "s"}},
    ]);
    let made = create::<AgentEnvironment>(&client, &namespace.name, with(good)).await;
    let server = &made.expect("taken").data["spec"]["mcpServers"][0];
    assert_eq!((&server["startTimeoutSeconds"], &server["callTimeoutSeconds"]), (&json!(30), &json!(60)));
    let stdio = json!({"command": "x"});
    let cases = [
        ("neither", json!([{"name": "a"}]), "exactly one of stdio and http"),
        (
            "both",
            json!([{"name": "a", "stdio": stdio, "http": {"url": "https://a.example.com"}}]),
            "exactly one",
        ),
        ("name", json!([{"name": "a__b", "stdio": stdio}]), "should match"),
        ("twice", json!([{"name": "a", "stdio": stdio}, {"name": "a", "stdio": stdio}]), "Duplicate value"),
        (
            "user info",
            json!([{"name": "a", "http": {"url": "https://k:v@a.example.com"}}]),
            "without user info",
        ),
        (
            "timeout",
            json!([{"name": "a", "stdio": stdio, "callTimeoutSeconds": 0}]),
            "greater than or equal to 1",
        ),
    ];
    for (case, servers, words) in cases {
        assert_refused(
            create::<AgentEnvironment>(&client, &namespace.name, with(servers)).await,
            words,
            case,
        );
    }
    namespace.delete().await;
}

#[tokio::test]
async fn providers_need_an_address_without_a_key_in_it() {
    let client = definitions::client().await;
    let namespace = TestNamespace::create(&client, "api-refs").await;
    let good = json!({"api": "Responses", "baseURL": "http://model.models.svc:8080/v1"});
    create::<ModelProvider>(&client, &namespace.name, good).await.expect("taken");
    let cases = [
        ("api", json!({"api": "Chat", "baseURL": "https://a.example.com/v1"}), "supported values"),
        (
            "user info",
            json!({"api": "Responses", "baseURL": "https://k:v@a.example.com/v1"}),
            "without user info",
        ),
        (
            "query",
            json!({"api": "Responses", "baseURL": "https://a.example.com/v1?key=1"}),
            "without user info",
        ),
        (
            "scheme",
            json!({"api": "Responses", "baseURL": "ftp://a.example.com"}),
            "must be https:// or http://",
        ),
    ];
    let mut bounded =
        json!({"api": "Responses", "baseURL": "https://a.example.com/v1", "limits": {"concurrentTasks": 3}});
    let made = create::<ModelProvider>(&client, &namespace.name, bounded.clone()).await.expect("taken");
    assert_eq!(made.data["spec"]["limits"]["concurrentTasks"], 3);
    for wrong in [json!(0), json!(-1), json!("3"), json!(100_001)] {
        bounded["limits"]["concurrentTasks"] = wrong.clone();
        let refused = create::<ModelProvider>(&client, &namespace.name, bounded.clone()).await;
        assert_refused(refused, "concurrentTasks", &wrong.to_string());
    }
    for (case, spec, words) in cases {
        assert_refused(create::<ModelProvider>(&client, &namespace.name, spec).await, words, case);
    }
    namespace.delete().await;
}

/// The chart's own check comes before the API server's, so it must not refuse what that would take.
#[test]
fn the_chart_takes_every_api_that_a_provider_may_speak() {
    let file = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")));
    let chart = file("charts/podwright/values.schema.json").expect("the chart's schema");
    let chart: Value = serde_json::from_str(&chart).expect("JSON");
    let definition = file("crds/modelproviders.podwright.dev.yaml").expect("the definition");
    let definition: Value = serde_saphyr::from_str(&definition).expect("YAML");
    let api = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["api"]["enum"];
    assert!(api.is_array(), "{api}");
    assert_eq!(&chart["properties"]["provider"]["properties"]["api"]["enum"], api);
}
