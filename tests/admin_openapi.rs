//! The `OpenAPI` document of administration against a running server: every operation is asked for,
//! and each answer is as the document says.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/openapi.rs"]
mod openapi;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;

use boxoffice::control::admin::OPENAPI;
use boxoffice::model::SaleId;
use http_peer::{HttpPeer, get, put};
use openapi::{Description, Operation};
use peer::{Peer, buy, intent};
use serde_json::{Value, json};
use server::Server;

/// The operation that a path and a method ask for.
fn operation<'a>(description: &'a Description, method: &str, path: &str) -> Operation<'a> {
    let path = path.split('?').next().expect("a path");
    let fits = |template: &str| {
        let (template, path): (Vec<&str>, Vec<&str>) =
            (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(&path).all(|(part, own)| part == own || part.starts_with('{'))
    };
    let operations = description.operations();
    // A path of words comes before one with a parameter.
    let exact = operations.iter().find(|one| one.method == method && one.path == path);
    let found =
        exact.or_else(|| operations.iter().find(|one| one.method == method && fits(one.path)));
    *found.unwrap_or_else(|| panic!("{method} {path} is in no document"))
}

fn request(method: &str, path: &str, body: Option<&Value>) -> String {
    match (method, body) {
        ("GET", _) => get(path),
        ("PUT", Some(body)) => put(path, body),
        (_, body) => {
            let body = body.map_or_else(String::new, Value::to_string);
            let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
            let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{kind}");
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
        }
    }
}

#[test]
fn every_answer_is_as_the_document_says() {
    let server = Server::start();
    let mut admin = HttpPeer::connect_unix(&server.data_dir().join("admin.sock"));
    let document = admin.get("/openapi.json");
    assert_eq!((document.status, &*document.body), (200, OPENAPI.as_bytes()));
    let description = Description::parse(OPENAPI);
    let wanted = json!({
        "account_limit": 4,
        "opens_at_ms": 9_999_999_999_998_u64,
        "closes_at_ms": 9_999_999_999_999_u64,
        "items": [{"item": 1, "capacity": 100, "price": 4500, "account_limit": 2}],
        "state": "open",
    });
    let item = json!({"capacity": 10, "price": 900});
    let asks: [(&str, &str, Option<&Value>, u16); 24] = [
        ("GET", "/livez", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("PUT", "/v1/sales/7", Some(&wanted), 201),
        ("PUT", "/v1/sales/7", Some(&wanted), 200),
        ("PUT", "/v1/sales/8", Some(&json!({})), 201),
        ("PUT", "/v1/sales/8/items/2", Some(&item), 200),
        ("POST", "/v1/sales/8/items/2/restock", Some(&json!({"by": 5})), 200),
        ("POST", "/v1/sales/8/items/2/restock", Some(&json!({"by": -500})), 400),
        ("PUT", "/v1/sales/8", Some(&json!({"surprise": 1})), 400),
        ("GET", "/v1/sales", None, 200),
        ("GET", "/v1/sales?limit=1", None, 200),
        ("GET", "/v1/sales/7", None, 200),
        ("GET", "/v1/sales/9", None, 404),
        ("GET", "/v1/stats", None, 200),
        ("GET", "/v1/sales/7/orders?account=00000000-0000-0000-0000-000000000001", None, 200),
        ("GET", "/v1/sales/7/orders/1", None, 200),
        ("GET", "/v1/sales/7/orders/2", None, 404),
        ("POST", "/v1/sales/7/pause", None, 200),
        ("POST", "/v1/sales/7/open", None, 200),
        ("POST", "/v1/sales/7/archive", None, 409),
        ("POST", "/v1/sales/7/close", None, 200),
        ("POST", "/v1/sales/7/archive", None, 200),
    ];
    let mut asked = BTreeSet::new();
    for (method, path, body, status) in asks {
        if path.ends_with("/orders/1") {
            Peer::connect(server.address()).gets(buy(intent(SaleId(7), 1, 1), &[(1, 1)]));
        }
        let response = admin.ask(&request(method, path, body));
        let told = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status, "{method} {path}: {told}");
        let operation = operation(&description, method, path);
        let documented = description.response(operation, status);
        let documented = documented.unwrap_or_else(|| panic!("{method} {path} has no {status}"));
        let kind = response.header("content-type").expect("it has a type");
        let kind = kind.split(';').next().expect("a type");
        let schema = &documented["content"][kind]["schema"];
        assert!(schema.is_object(), "{method} {path}: {status} has no {kind}");
        if kind.ends_with("json") {
            assert_eq!(description.misfit(schema, &response.json()), None, "{method} {path}");
        }
        if let (Some(body), 200..300) = (body, status) {
            let schema = &operation.body["requestBody"]["content"]["application/json"]["schema"];
            assert_eq!(description.misfit(schema, body), None, "{method} {path}");
        }
        asked.insert(operation.id().to_owned());
    }
    let all: BTreeSet<String> =
        description.operations().iter().map(|one| one.id().to_owned()).collect();
    assert_eq!(asked, all, "every operation was asked for");
}

/// An answer with one property more, or one of another type, is seen.
#[test]
fn canary_other_answers_are_seen() {
    let description = Description::parse(OPENAPI);
    let schema = json!({"$ref": "#/components/schemas/Units"});
    let units = json!({"capacity": 1, "available": 1, "held": 0, "sold": 0});
    assert_eq!(description.misfit(&schema, &units), None);
    for (name, value) in [("more", json!(1)), ("sold", json!("0"))] {
        let mut other = units.clone();
        other[name] = value;
        assert!(description.misfit(&schema, &other).is_some(), "{other}");
    }
}
