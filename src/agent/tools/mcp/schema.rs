//! Schemas of MCP tools' arguments, in the one form in which they are sent.

use serde_json::{Map, Value, json};

/// Longest schema, in bytes of JSON: several times the largest of the servers in use. Each is sent with every request.
pub const SCHEMA_MAX: usize = 32 * 1024;

/// Most levels of a schema: those in use have a handful, and servers refuse deep ones.
const DEPTH_MAX: usize = 32;

/// Why a schema cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaRefused {
    /// It does not describe an object.
    #[error("its arguments are no object")]
    NoObject,
    /// It is too deep.
    #[error("its schema has more than {DEPTH_MAX} levels")]
    TooDeep,
    /// It is too long.
    #[error("its schema is longer than {SCHEMA_MAX} bytes")]
    TooLong,
}

/// The canonical form of a schema: members sorted by their keys, an object with `properties` as every API wants it. A
/// server that lists its members in another order at its next start gives the same bytes.
///
/// # Errors
/// [`SchemaRefused`].
pub fn canonical(schema: Map<String, Value>) -> Result<Value, SchemaRefused> {
    let mut schema = schema;
    // It names a dialect of JSON schema, which the APIs choose themselves.
    schema.remove("$schema");
    match schema.get("type") {
        None => drop(schema.insert("type".to_owned(), json!("object"))),
        Some(Value::String(kind)) if kind == "object" => {}
        Some(_) => return Err(SchemaRefused::NoObject),
    }
    if !schema.get("properties").is_some_and(Value::is_object) {
        schema.insert("properties".to_owned(), json!({}));
    }
    let schema = sorted(Value::Object(schema), DEPTH_MAX)?;
    if schema.to_string().len() > SCHEMA_MAX {
        return Err(SchemaRefused::TooLong);
    }
    Ok(schema)
}

fn sorted(value: Value, levels: usize) -> Result<Value, SchemaRefused> {
    let deeper = levels.checked_sub(1).ok_or(SchemaRefused::TooDeep);
    match value {
        Value::Object(members) => {
            let levels = deeper?;
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|left, right| left.0.cmp(&right.0));
            let members = members.into_iter().map(|(key, value)| Ok((key, sorted(value, levels)?)));
            members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        Value::Array(items) => {
            let levels = deeper?;
            let items = items.into_iter().map(|item| sorted(item, levels));
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value),
    }
}
