//! The error object of each API.

use serde_json::{Value, json};

use crate::scripted::seen::Api;

/// The body of an HTTP answer that reports an error. The Messages API has types in place of codes; without a
/// code the status says which.
pub fn error_body(api: Api, status: u16, code: Option<&str>, message: &str) -> Value {
    match api {
        Api::Responses | Api::Chat => {
            json!({"error": {"message": message, "type": "scripted", "param": null, "code": code}})
        }
        Api::Messages => {
            let kind = code.unwrap_or_else(|| error_type(status));
            json!({"type": "error", "error": {"type": kind, "message": message}})
        }
    }
}

fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_api_has_its_own_form() {
        assert_eq!(
            error_body(Api::Chat, 400, Some("c"), "m"),
            json!({"error": {"message": "m", "type": "scripted", "param": null, "code": "c"}})
        );
        assert_eq!(
            error_body(Api::Messages, 529, None, "m"),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})
        );
        for (status, code, kind) in [
            (400, None, "invalid_request_error"),
            (401, None, "authentication_error"),
            (429, None, "rate_limit_error"),
            (500, None, "api_error"),
            (500, Some("billing_error"), "billing_error"),
        ] {
            assert_eq!(error_body(Api::Messages, status, code, "m")["error"]["type"], kind);
        }
    }
}
