//! Money: decimal strings in objects, millionths inside. The currency is whatever the provider's prices are in.

use std::fmt;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Millionths of one.
const ONE: u64 = 1_000_000;

/// An amount of money from 0 to 999,999,999.999999, written `5`, `5.00` or `0.000125`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    micros: u64,
}

/// What a million tokens cost.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// A million input tokens that are neither read from the provider's cache nor written to it.
    pub input: Money,
    /// A million input tokens that the provider serves from its cache. Unset: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Money>,
    /// A million input tokens that the provider writes to its cache. Unset: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_input: Option<Money>,
    /// A million output tokens, reasoning included.
    pub output: Money,
}

impl Money {
    /// The largest amount that can be written.
    pub const MAX: Self = Self { micros: 1_000_000_000 * ONE - 1 };

    /// An amount in millionths; the largest one for more than that.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros > Self::MAX.micros { Self::MAX } else { Self { micros } }
    }

    /// The amount in millionths.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.micros
    }

    fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 9) || !is_number(part, 6) {
            return None;
        }
        let whole: u64 = whole.parse().ok()?;
        let part: u64 = format!("{part:0<6}").parse().ok()?;
        Some(Self { micros: whole * ONE + part })
    }
}

/// With two decimal places, and with more where there are more.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!("{:06}", self.micros % ONE);
        let (cents, rest) = part.split_at(2);
        write!(f, "{}.{cents}{}", self.micros / ONE, rest.trim_end_matches('0'))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is no amount of money such as \"5.00\""))
        })
    }
}

impl JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$", "maxLength": 16})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_and_written_as_a_decimal_string() {
        for (text, micros, written) in [
            ("5", 5_000_000, "5.00"),
            ("5.00", 5_000_000, "5.00"),
            ("0.000125", 125, "0.000125"),
            ("1.5", 1_500_000, "1.50"),
            ("999999999.999999", 999_999_999_999_999, "999999999.999999"),
        ] {
            let money: Money = serde_json::from_value(text.into()).unwrap();
            assert_eq!((money.micros(), money.to_string().as_str()), (micros, written));
            let again: Money = serde_json::from_value(serde_json::to_value(money).unwrap()).unwrap();
            assert_eq!(again, money);
        }
        assert_eq!(Money::from_micros(u64::MAX).to_string(), "999999999.999999");
        for text in ["", ".5", "5.", "-1", "1e3", "1.0000001", "1234567890", "5,00"] {
            assert!(serde_json::from_value::<Money>(text.into()).is_err(), "{text}");
        }
    }
}
