//! The error object of each API.

use serde_json::{Value, json};

use crate::scripted::seen::Api;

/// The body of an HTTP answer that reports an error.
pub fn error_body(api: Api, code: Option<&str>, message: &str) -> Value {
    match api {
        Api::Responses | Api::Chat => {
            json!({"error": {"message": message, "type": "scripted", "param": null, "code": code}})
        }
    }
}
