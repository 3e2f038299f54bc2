//! The `OpenAPI` document against the code: routes, refusals, faults, statuses, examples.
//!
//! Here the document is held to the tables of the code, both ways; `openapi_answers` holds it to
//! what a server answers.

#[path = "support/openapi.rs"]
mod openapi;

use std::collections::BTreeSet;

use boxoffice::model::{OrderState, RefusalCode, SaleState};
use boxoffice::protocol::codes::{WireCode, http_status, title};
use boxoffice::protocol::http::{
    Decoded, Decoder, HttpFault, HttpRefusal, Methods, OPENAPI, Route, route,
};
use boxoffice::server::documents::Documents;
use openapi::{Description, Operation, PROBLEM, list, object};
use serde_json::{Value, json};

/// Names the operation of each route; a route without a name does not compile.
macro_rules! operations {
    ($($route:pat => $name:literal,)*) => {
        fn operation_of(route: Route) -> Option<&'static str> {
            match route {
                $($route => Some($name),)*
                Route::Document | Route::Options(_) => None,
            }
        }

        const ROUTED: &[&str] = &[$($name),*];
    };
}

operations! {
    Route::Orders(..) => "createOrder",
    Route::Confirm(..) => "confirmOrder",
    Route::Release(..) => "releaseOrder",
    Route::Cancel(..) => "cancelOrder",
    Route::Extend(..) => "extendOrder",
    Route::Order(..) => "readOrder",
    Route::Request(..) => "lookUpRequest",
    Route::Availability(..) => "readAvailability",
    Route::Stats(..) => "readStats",
}

/// Where a request of this method and path goes.
fn routed(method: &str, path: &str) -> Result<Route, HttpRefusal> {
    let bytes = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    match Decoder::default().decode(bytes.as_bytes()) {
        Ok(Decoded::Complete { request, .. }) => route(&request),
        other => panic!("{method} {path}: {other:?}"),
    }
}

/// A path with an id in each place.
fn filled(path: &str) -> String {
    path.replace("{sale}", "7").replace("{order}", "12").replace("{request_id}", "a")
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let description = Description::shipped();
    let mut described = BTreeSet::new();
    for operation in description.operations() {
        let path = filled(operation.path);
        let is_new = described.insert(operation.id());
        assert!(is_new, "{} is there twice", operation.id());
        let found = routed(operation.method, &path).expect("a described path is routed");
        if operation.path.starts_with("/v1/") {
            assert_eq!(operation_of(found), Some(operation.id()), "{path}");
        } else {
            assert_eq!(found, Route::Document);
            assert!(Documents::shipped().find(&path).is_some(), "{path} is not served");
            continue;
        }
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY"] {
            let is_described =
                method == operation.method || method == "HEAD" && operation.method == "GET";
            let refused = match routed(method, &path) {
                Err(HttpRefusal::Fault(HttpFault::MethodNotAllowed(methods))) => Some(methods),
                _ => None,
            };
            assert_eq!(refused.is_none(), is_described, "{method} {path}");
            let reads = operation.method == "GET";
            let methods = if reads { Methods::Read } else { Methods::Write };
            assert!(refused.is_none_or(|allowed| allowed == methods), "{method} {path}");
        }
    }
    let routed: BTreeSet<_> = ROUTED.iter().copied().chain(["readDescription"]).collect();
    assert_eq!(described, routed);
}

/// The schema that a problem must have beside what goes with it.
fn row(kind: &str, status: u16, code: &str, title: &str) -> Value {
    json!({
        "type": {"const": format!("urn:boxoffice:{kind}:{code}")},
        "title": {"const": title},
        "status": {"const": status},
        "code": {"const": code},
    })
}

#[test]
fn every_refusal_and_fault_is_described_as_its_table_has_it() {
    let description = Description::shipped();
    let schemas = object(&description.value()["components"]["schemas"]);
    let refusals = RefusalCode::ALL
        .iter()
        .map(|&code| row("refusal", http_status(code), code.name(), title(code)));
    let faults =
        HttpFault::ROWS.iter().map(|&(status, code, title)| row("fault", status, code, title));
    let mut rows = BTreeSet::new();
    for row in refusals.chain(faults) {
        let code = row["code"]["const"].as_str().expect("a code").to_owned();
        let schema = schemas.get(&code).unwrap_or_else(|| panic!("{code} is not described"));
        for (name, member) in object(&row) {
            assert_eq!(&schema["properties"][name], member, "{code}");
            assert!(list(&schema["required"]).contains(&json!(name)), "{code}");
        }
        assert_eq!(schema["additionalProperties"], false, "{code}");
        rows.insert(code);
    }
    let described: BTreeSet<_> = schemas
        .iter()
        .filter_map(|(_, schema)| schema["properties"]["code"]["const"].as_str())
        .map(str::to_owned)
        .collect();
    assert_eq!(described, rows, "no other code is described");
}

/// Faults that a request for a described operation cannot have, or not all of them.
const SPECIAL: [&str; 5] =
    ["NO_SUCH_PATH", "METHOD_NOT_ALLOWED", "METHOD_UNKNOWN", "LENGTH_REQUIRED", "MEDIA_TYPE"];

/// A refusal of administration alone.
const ADMINISTRATION: &str = "NOT_CLOSED";

/// The refusals of an operation beside what any request may get.
fn own_problems(operation: Operation<'_>) -> &'static [&'static str] {
    match operation.id() {
        "createOrder" => &[
            "SOLD_OUT",
            "NONE_NOW",
            "ACCOUNT_LIMIT",
            "NOT_OPEN",
            "PAUSED",
            "CLOSED",
            "KEY_CONFLICT",
            "PRICE_MISMATCH",
            "FORBIDDEN",
            "OVERLOADED",
            "DISK_FULL",
            "LENGTH_REQUIRED",
            "MEDIA_TYPE",
        ],
        "confirmOrder" | "releaseOrder" | "cancelOrder" | "extendOrder" => &[
            "WRONG_STATE",
            "HOLD_EXPIRED",
            "KEY_CONFLICT",
            "FORBIDDEN",
            "OVERLOADED",
            "DISK_FULL",
            "MEDIA_TYPE",
        ],
        "lookUpRequest" => &["ACCOUNT_LIMIT", "FORBIDDEN", "OVERLOADED", "DISK_FULL"],
        "readOrder" | "readStats" => &["FORBIDDEN"],
        "readAvailability" | "readDescription" => &[],
        other => panic!("what can {other} be refused for?"),
    }
}

#[test]
fn every_operation_names_what_it_can_be_refused_for() {
    let description = Description::shipped();
    for operation in description.operations() {
        let mut expected: BTreeSet<&str> = HttpFault::ROWS.iter().map(|row| row.1).collect();
        expected.retain(|code| !SPECIAL.contains(code));
        if operation.id() != "readDescription" {
            expected.extend(["BAD_REQUEST", "BAD_TOKEN", "NOT_FOUND", "DRAINING"]);
        }
        expected.extend(own_problems(operation));
        let problems = description.problems(operation);
        let described: BTreeSet<&str> = problems.iter().map(|(_, code)| code.as_str()).collect();
        assert_eq!(described, expected, "{}", operation.id());
        for (status, code) in &problems {
            let schema = &description.value()["components"]["schemas"][code];
            assert_eq!(schema["properties"]["status"]["const"], *status, "{}", operation.id());
        }
        let responses = object(&operation.body["responses"]);
        let successes: Vec<_> = responses
            .keys()
            .filter(|status| !status.starts_with('4'))
            .filter(|status| !status.starts_with('5'))
            .collect();
        match operation.id() {
            "createOrder" => assert_eq!(successes, ["201"]),
            "readDescription" => assert_eq!(successes, ["200", "304"]),
            _ => assert_eq!(successes, ["200"], "{}", operation.id()),
        }
    }
}

/// Calls `visit` with every object of the document.
fn each_object<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(members) => {
            visit(value);
            members.values().for_each(|member| each_object(member, visit));
        }
        Value::Array(elements) => elements.iter().for_each(|element| each_object(element, visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let description = Description::shipped();
    let mut used = BTreeSet::new();
    each_object(description.value(), &mut |value| {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            description.resolve(value);
            used.insert(target.to_owned());
        }
    });
    for (kind, parts) in object(&description.value()["components"]) {
        for name in object(parts).keys().filter(|_| kind != "securitySchemes") {
            let target = format!("#/components/{kind}/{name}");
            // What stands for no described operation is described all the same.
            let is_special = SPECIAL.contains(&name.as_str()) || name == ADMINISTRATION;
            assert!(used.contains(&target) || is_special, "{target} is not used");
        }
    }
}

/// The examples of a media type, a parameter or a schema, each with the schema it must fit.
fn examples(description: &Description) -> Vec<(&Value, &Value)> {
    let mut found = Vec::new();
    each_object(description.value(), &mut |value| {
        let Some(schema) = value.get("schema") else { return };
        found.extend(value.get("example").map(|example| (schema, example)));
        let named = value.get("examples").and_then(Value::as_object);
        found.extend(named.into_iter().flatten().map(|(_, named)| (schema, &named["value"])));
    });
    found
}

#[test]
fn every_example_fits_its_schema() {
    let description = Description::shipped();
    let examples = examples(&description);
    assert!(examples.len() >= 20, "there are examples: {}", examples.len());
    for (schema, example) in examples {
        assert_eq!(description.misfit(schema, example), None, "{example}");
    }
    for operation in description.operations() {
        for (status, response) in object(&operation.body["responses"]) {
            let content = description.resolve(response).get("content").map(object);
            for (media_type, content) in content.into_iter().flatten() {
                let is_problem = status.starts_with(['4', '5']);
                assert_eq!(media_type == PROBLEM, is_problem, "{} {status}", operation.id());
                assert!(content.get("schema").is_some(), "{} {status}", operation.id());
            }
        }
        if let Some(body) = operation.body.get("requestBody") {
            let examples = &body["content"]["application/json"]["examples"];
            assert!(!object(examples).is_empty(), "{}: show how", operation.id());
        }
    }
}

/// The canary of the judge: each of these breaks one keyword, and each must be found.
#[test]
fn what_does_not_fit_a_schema_is_found() {
    let description = Description::shipped();
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let line = json!({"item": 1, "quantity": 1});
    let hold = |lines: Value| json!({"action": "hold", "account": "a", "lines": lines});
    let mut none = hold(json!([line]));
    assert_eq!(description.misfit(&schema("OrderRequest"), &none), None);
    none["account"] = json!("00000000-0000-0000-0000-000000000000");
    let mut long = hold(json!([line]));
    long["account"] = json!("x".repeat(65));
    let mut more = hold(json!([line]));
    more["payment_ref"] = json!("p");
    for wrong in [
        none,
        long,
        more,
        hold(json!([])),
        hold(json!({})),
        hold(json!(vec![line.clone(); 17])),
        hold(json!([{"item": 1, "quantity": 0}])),
        hold(json!([{"item": 1, "quantity": -1}])),
        hold(json!([{"item": 1, "quantity": 1.5}])),
        hold(json!([{"item": 4_294_967_296_u64, "quantity": 1}])),
        hold(json!([{"quantity": 1}])),
        json!({"action": "steal", "lines": [line]}),
        json!("hold"),
    ] {
        assert!(description.misfit(&schema("OrderRequest"), &wrong).is_some(), "{wrong}");
    }
    let uuid = json!({"type": "string", "format": "uuid"});
    assert!(description.misfit(&uuid, &json!("not-a-uuid")).is_some());
    let key = &description.value()["components"]["parameters"]["key"]["schema"];
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    for text in ["a", "a b", "it's", "\"a\"", &longest, &format!("\"{longest}\"")] {
        assert_eq!(description.misfit(key, &json!(text)), None, "{text}");
    }
    for text in ["", " a", "a ", "\"", "\"\"", "\"a", &too_long, &format!("\"{too_long}\"")] {
        assert!(description.misfit(key, &json!(text)).is_some(), "{text}");
    }
}

#[test]
fn every_state_is_described() {
    let description = Description::shipped();
    let states = |schema: &str| &description.value()["components"]["schemas"][schema]["properties"];
    let sales: Vec<_> = SaleState::ALL.iter().map(|state| state.name()).collect();
    assert_eq!(states("Stats")["state"]["enum"], json!(sales));
    let orders: Vec<_> = OrderState::ALL.iter().map(|state| state.name()).collect();
    for schema in ["Order", "WRONG_STATE"] {
        assert_eq!(states(schema)["state"]["enum"], json!(orders), "{schema}");
    }
}

#[test]
fn the_document_is_of_the_version_that_it_says() {
    let description = Description::shipped();
    assert_eq!(description.value()["openapi"], "3.1.0");
    assert!(OPENAPI.ends_with(b"}\n"));
    for operation in description.operations() {
        let is_open = operation.body["security"] == json!([]);
        assert_eq!(is_open, !operation.path.starts_with("/v1/"), "{}", operation.path);
    }
}
