//! The `OpenAPI` document of the HTTP interface, and a judge of JSON by its schemas.
//!
//! The judge knows the keywords that the document uses and no other: one that it does not know is
//! a panic, so that nothing in the document goes unread.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeSet;

use boxoffice::protocol::http::OPENAPI;
use serde_json::{Map, Value};

/// The media type of refusals and faults.
pub const PROBLEM: &str = "application/problem+json";

/// The methods that a path of the document may have.
const METHODS: [&str; 9] =
    ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

/// The document.
pub struct Description(Value);

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    pub path: &'a str,
    /// In capitals.
    pub method: &'static str,
    pub body: &'a Value,
}

impl<'a> Operation<'a> {
    pub fn id(&self) -> &'a str {
        self.body["operationId"].as_str().expect("an operation has an id")
    }
}

impl Description {
    /// The document as it is served.
    pub fn shipped() -> Self {
        Self::parse(std::str::from_utf8(OPENAPI).expect("UTF-8"))
    }

    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("the document is JSON"))
    }

    pub const fn value(&self) -> &Value {
        &self.0
    }

    /// Every operation, in the order of the document's paths.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in object(&self.0["paths"]) {
            for (name, body) in object(item) {
                if name == "parameters" {
                    continue;
                }
                let known = METHODS.iter().find(|method| *method == name);
                let method = known.unwrap_or_else(|| panic!("{path}: what is {name}?"));
                let method = ["GET", "POST", "PUT"]
                    .into_iter()
                    .find(|capital| capital.eq_ignore_ascii_case(method))
                    .unwrap_or_else(|| panic!("{path} takes no {method}"));
                operations.push(Operation { path, method, body });
            }
        }
        operations
    }

    /// What a reference means, or the value itself where it is none.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(target) = value.get("$ref") else { return value };
        let pointer = target.as_str().and_then(|text| text.strip_prefix('#')).expect("a pointer");
        let found = self.0.pointer(pointer);
        found.unwrap_or_else(|| panic!("{pointer} points to nothing"))
    }

    /// The answer of a status, where the operation has it.
    pub fn response<'a>(&'a self, operation: Operation<'a>, status: u16) -> Option<&'a Value> {
        operation.body["responses"].get(status.to_string()).map(|value| self.resolve(value))
    }

    /// The codes of all refusals and faults of an operation, with their statuses.
    pub fn problems(&self, operation: Operation<'_>) -> BTreeSet<(u16, String)> {
        let mut problems = BTreeSet::new();
        for (status, response) in object(&operation.body["responses"]) {
            let status = status.parse().expect("a status");
            let schema = &self.resolve(response)["content"][PROBLEM]["schema"];
            let either = schema.get("oneOf").and_then(Value::as_array);
            for schema in either.map_or_else(|| vec![schema], |each| each.iter().collect()) {
                if let Some(code) = self.resolve(schema)["properties"]["code"]["const"].as_str() {
                    problems.insert((status, code.to_owned()));
                }
            }
        }
        problems
    }

    /// What is wrong with a value by a schema; `None` where it fits.
    pub fn misfit(&self, schema: &Value, value: &Value) -> Option<String> {
        for (keyword, wanted) in object(schema) {
            let found = match keyword.as_str() {
                "$ref" => self.misfit(self.resolve(schema), value),
                "oneOf" => self.misfit_of_one(wanted, value),
                "not" => fails(self.misfit(wanted, value).is_some(), "it is excluded"),
                "properties" => self.misfit_of_properties(wanted, value),
                "additionalProperties" => fails(
                    wanted == true || has_only(value, &schema["properties"]),
                    "it has an unknown property",
                ),
                "items" => value.as_array().and_then(|elements| {
                    elements.iter().find_map(|element| self.misfit(wanted, element))
                }),
                _ => misfit_of_keyword(keyword, wanted, value),
            };
            if let Some(why) = found {
                return Some(format!("{keyword}: {why}: {value}"));
            }
        }
        None
    }

    fn misfit_of_one(&self, schemas: &Value, value: &Value) -> Option<String> {
        let misfits: Vec<_> =
            list(schemas).iter().map(|schema| self.misfit(schema, value)).collect();
        let fitting = misfits.iter().filter(|misfit| misfit.is_none()).count();
        fails(fitting == 1, &format!("{fitting} of them fit, {misfits:?}"))
    }

    fn misfit_of_properties(&self, properties: &Value, value: &Value) -> Option<String> {
        object(properties).iter().find_map(|(name, schema)| {
            let misfit = self.misfit(schema, value.get(name)?)?;
            Some(format!("{name}: {misfit}"))
        })
    }
}

/// A keyword that needs neither the document nor its neighbours.
fn misfit_of_keyword(keyword: &str, wanted: &Value, value: &Value) -> Option<String> {
    let number = |value: &Value| value.as_u64().map(u128::from);
    let length = |value: &Value| match value {
        Value::String(text) => Some(text.chars().count() as u128),
        Value::Array(elements) => Some(elements.len() as u128),
        _ => None,
    };
    let at_least = |found: Option<u128>| found.is_none_or(|found| Some(found) >= number(wanted));
    let at_most = |found: Option<u128>| found.is_none_or(|found| Some(found) <= number(wanted));
    let fits = match keyword {
        "type" => match wanted.as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_u64() || value.is_i64(),
            other => panic!("what is the type {other:?}?"),
        },
        "const" => value == wanted,
        "enum" => list(wanted).contains(value),
        "minimum" => !value.is_i64() || value.is_u64() && at_least(number(value)),
        "maximum" => at_most(number(value)),
        "minLength" | "minItems" => at_least(length(value)),
        "maxLength" | "maxItems" => at_most(length(value)),
        "required" => list(wanted).iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
        "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
        "format" => match wanted.as_str() {
            Some("uuid") => value.as_str().is_none_or(is_uuid),
            other => panic!("what is the format {other:?}?"),
        },
        "description" | "default" | "discriminator" => true,
        _ => panic!("what is the keyword {keyword}?"),
    };
    fails(fits, &format!("it should be {wanted}"))
}

/// The patterns that the document has, each read by hand.
fn matches(pattern: &str, text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match pattern {
        "^/v1/sales/[0-9]+/orders/[0-9]+$" => text
            .strip_prefix("/v1/sales/")
            .and_then(|rest| rest.split_once("/orders/"))
            .is_some_and(|(sale, order)| digits(sale) && digits(order)),
        "^Bearer realm=\"boxoffice\"" => text.starts_with("Bearer realm=\"boxoffice\""),
        "^\"[0-9a-f]{32}\"$" => {
            let hex = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            hex.is_some_and(|hex| hex.len() == 32 && hex.bytes().all(is_hex))
        }
        r#"^([!#-~]([\t -~]{0,62}[!-~])?|"([ !#-\[\]-~]|\\["\\])+")$"# => {
            let is_text = text.bytes().all(|byte| byte == b'\t' || (32..127).contains(&byte));
            let quoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"'));
            let is_sound = match quoted {
                None => text.trim() == text && text.len() <= 64,
                Some(inner) => inner.is_some_and(|inner| !inner.contains(['"', '\\', '\t'])),
            };
            is_text && is_sound && !matches!(text, "" | "\"\"")
        }
        "^[^\"]" => !text.is_empty() && !text.starts_with('"'),
        _ => panic!("what is the pattern {pattern}?"),
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(is_hex))
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn has_only(value: &Value, properties: &Value) -> bool {
    value
        .as_object()
        .is_none_or(|members| members.keys().all(|name| properties.get(name).is_some()))
}

fn fails(fits: bool, why: &str) -> Option<String> {
    (!fits).then(|| why.to_owned())
}

#[track_caller]
pub fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}"))
}

#[track_caller]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}
