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
                let path = format!("{}: {part}", crd::name(&definition));
                check(schema, &path, part == "spec", &mut offences);
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_printed_column_is_a_field_of_its_type() {
    for definition in crd::all() {
        let name = crd::name(&definition);
        let version = &definition["spec"]["versions"][0];
        let columns = version["additionalPrinterColumns"].as_array().expect("every kind prints columns");
        for column in columns.iter().filter(|column| column["jsonPath"] != ".metadata.creationTimestamp") {
            let path = column["jsonPath"].as_str().expect("a path");
            let field = field(&version["schema"]["openAPIV3Schema"], path);
            let found = field.unwrap_or_else(|| panic!("{name}: {path} leads to no field"))["type"].as_str();
            let fits = match column["type"].as_str() {
                Some("integer") => found == Some("integer"),
                Some("string") => matches!(found, Some("string" | "boolean")),
                other => panic!("{name}: {path}: {other:?}"),
            };
            assert!(fits, "{name}: {path} is no {}: {found:?}", column["type"]);
        }
    }
}

#[test]
fn a_path_to_nowhere_leads_to_no_field() {
    let task = crd::all().remove(0);
    let schema = &task["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for path in [
        ".status.result.file",
        ".status.attempts.step",
        ".status.conditions[?(@.kind==\"Succeeded\")].status",
        ".spec.prompt[0]",
        "spec.prompt",
    ] {
        assert_eq!(field(schema, path), None, "{path}");
    }
}

/// Where a JSONPath of the kinds that columns have leads in a schema: names, and entries of lists by number or by a
/// field's value.
fn field<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(schema);
    }
    if let Some(named) = path.strip_prefix('.') {
        let (name, rest) = named.split_at(named.find(['.', '[']).unwrap_or(named.len()));
        return field(schema["properties"].get(name)?, rest);
    }
    let (which, rest) = path.strip_prefix('[')?.split_once(']')?;
    let entry = schema.get("items")?;
    if let Some(filter) = which.strip_prefix("?(@") {
        field(entry, filter.split_once("==")?.0)?;
    }
    field(entry, rest)
}

/// Fields that come from Kubernetes' own types, whose bounds and words are not ours.
const FOREIGN: &[&str] = &["conditions", "tolerations"];

/// `ranges`: integers need one as well. What agents count in a status has none.
fn check(schema: &Value, path: &str, ranges: bool, offences: &mut Vec<String>) {
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
            check(&schema["items"], &format!("{path}[]"), ranges, offences);
        }
        Some("object") => {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if field.get("description").is_none() {
                    offences.push(format!("{path} is not documented"));
                }
                if !FOREIGN.contains(&name.as_str()) {
                    check(field, &path, ranges, offences);
                }
            }
            if let Some(value) = schema.get("additionalProperties") {
                if schema.get("maxProperties").is_none() {
                    offences.push(format!("{path} is a map without a bound"));
                }
                check(value, &format!("{path}{{}}"), ranges, offences);
            }
        }
        Some("integer") if ranges && (schema.get("minimum").is_none() || schema.get("maximum").is_none()) => {
            offences.push(format!("{path} is an integer without a range"));
        }
        None if schema.get("x-kubernetes-int-or-string").is_some() && schema.get("maxLength").is_none() => {
            offences.push(format!("{path} may be a string without a bound"));
        }
        _ => {}
    }
}
