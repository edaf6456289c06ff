//! The definitions themselves.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use podwright::api::crd;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::cluster;

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// A client of the test cluster, with this tree's definitions installed and served.
pub(crate) async fn client() -> kube::Client {
    INSTALLED.get_or_init(install).await;
    cluster::admin().await
}

async fn install() {
    let api: Api<CustomResourceDefinition> = Api::all(cluster::admin().await);
    let params = PatchParams::apply("podwright-crds").force();
    for definition in crd::all() {
        let name = crd::name(&definition);
        api.patch(name, &params, &Patch::Apply(&definition))
            .await
            .expect("the API server takes the definition");
        let served = kube::runtime::conditions::is_crd_established();
        kube::runtime::wait::await_condition(api.clone(), name, served).await.expect("it is served");
    }
}

#[tokio::test]
async fn the_api_server_takes_every_definition() {
    client().await;
}

#[test]
fn the_committed_files_are_what_the_types_say() {
    for folder in ["crds", "charts/podwright/charts/podwright-crds/crds"] {
        for definition in crd::all() {
            let file = format!("{}/{folder}/{}.yaml", env!("CARGO_MANIFEST_DIR"), crd::name(&definition));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            let committed: Value = serde_saphyr::from_str(&text).expect("a committed definition is YAML");
            assert_eq!(committed, definition, "{file} is not what the types say: run `make crds`");
        }
    }
}

#[test]
fn every_field_is_documented_and_bounded() {
    let mut offences = Vec::new();
    for definition in crd::all() {
        let schema =
            definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties").expect("a schema");
        for part in ["spec", "status"] {
            if let Some(schema) = schema.get(part) {
                check(schema, &format!("{}: {part}", crd::name(&definition)), &mut offences);
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

/// Fields that come from Kubernetes' own types, whose bounds and words are not ours.
const FOREIGN: &[&str] = &["conditions", "tolerations"];

fn check(schema: &Value, path: &str, offences: &mut Vec<String>) {
    if schema.get("nullable").is_some() {
        offences.push(format!("{path} is nullable"));
    }
    match schema["type"].as_str() {
        Some("string") => {
            let bounded = ["maxLength", "enum", "format"].iter().any(|bound| schema.get(bound).is_some());
            if !bounded {
                offences.push(format!("{path} is a string without a bound"));
            }
        }
        Some("array") => {
            if schema.get("maxItems").is_none() {
                offences.push(format!("{path} is a list without a bound"));
            }
            check(&schema["items"], &format!("{path}[]"), offences);
        }
        Some("object") => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if field.get("description").is_none() {
                    offences.push(format!("{path} is not documented"));
                }
                if !FOREIGN.contains(&name.as_str()) {
                    check(field, &path, offences);
                }
            }
            if schema.get("additionalProperties").is_some() && schema.get("maxProperties").is_none() {
                offences.push(format!("{path} is a map without a bound"));
            }
        }
        _ => {}
    }
}
