//! Random policies and requests, of a seed.

use std::fmt::Write as _;

use rand::prelude::*;
use rand::rngs::StdRng;

/// Services behind the routes, each with one member: beside weft-proxy, beside Envoy.
pub const BACKENDS: [&str; 2] = ["catalog-weft", "catalog-envoy"];
/// Names that matches and requests share, so that they meet.
const SEGMENTS: [&str; 5] = ["a", "b", "admin", "items", "A"];
const TEAMS: [&str; 4] = ["red", "blue", "Red", ""];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// A request as it leaves an application.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: &'static str,
    /// The service that it is for, by its name in the mesh.
    pub service: &'static str,
    /// How the application writes it.
    pub host: String,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
}

fn one(random: &mut StdRng, of: &[&'static str]) -> &'static str {
    of.choose(random).copied().unwrap_or_default()
}

fn path(random: &mut StdRng) -> String {
    let count = random.random_range(1..=2);
    (0..count).map(|_| format!("/{}", one(random, &SEGMENTS))).collect()
}

fn path_match(random: &mut StdRng) -> String {
    let path = path(random);
    match random.random_range(0..6) {
        0 => "{type: PathPrefix, value: /}".to_owned(),
        1 | 2 => format!("{{type: PathPrefix, value: {path}}}"),
        3 | 4 => format!("{{type: Exact, value: {path}}}"),
        _ => {
            let expression = one(random, &["/a/[^/]+", "/(a|b)(/.*)?", ".*admin.*", "/[a-z]+", "/A/?"]);
            format!("{{type: RegularExpression, value: '{expression}'}}")
        }
    }
}

fn route_match(random: &mut StdRng) -> String {
    let mut text = format!("{{path: {}", path_match(random));
    if random.random_bool(0.3) {
        write!(text, ", method: {}", one(random, &METHODS)).expect("a string grows");
    }
    if random.random_bool(0.3) {
        let header = match random.random_bool(0.7) {
            true => format!("{{name: X-Team, value: '{}'}}", one(random, &["red", "blue", "red,blue"])),
            false => "{type: RegularExpression, name: x-team, value: '[a-z]+'}".to_owned(),
        };
        write!(text, ", headers: [{header}]").expect("a string grows");
    }
    if random.random_bool(0.2) {
        write!(text, ", queryParams: [{{name: q, value: '{}'}}]", one(random, &["1", "2", "a%2Fb"]))
            .expect("a string grows");
    }
    text + "}"
}

fn backends(random: &mut StdRng) -> String {
    let weights = *[(1, 0), (0, 1), (1, 1), (3, 1), (1, 9)].choose(random).expect("there are some");
    let backends = [weights.0, weights.1].into_iter().zip(BACKENDS);
    let backends: Vec<String> =
        backends.map(|(weight, name)| format!("{{name: {name}, port: 80, weight: {weight}}}")).collect();
    format!("backendRefs: [{}]", backends.join(", "))
}

fn rule(random: &mut StdRng) -> String {
    let count = random.random_range(1..=2);
    let mut prefixes = true;
    let matches: Vec<String> = (0..count)
        .map(|_| {
            let one = route_match(random);
            prefixes &= one.contains("PathPrefix");
            one
        })
        .collect();
    let matches = format!("matches: [{}]", matches.join(", "));
    match random.random_range(0..8) {
        0 => {
            let host = one(random, &["", ", hostname: other.test", ", port: 8443", ", scheme: https"]);
            let status = one(random, &["301", "302", "307", "308"]);
            format!(
                "{{{matches}, filters: [{{type: RequestRedirect, requestRedirect: {{statusCode: {status}{host}}}}}]}}"
            )
        }
        1 => {
            let modifier = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-team, value: blue}], remove: [x-other]}}";
            format!("{{{matches}, filters: [{modifier}], {}}}", backends(random))
        }
        2 if prefixes => {
            let modifier = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /admin}}}";
            format!("{{{matches}, filters: [{modifier}], {}}}", backends(random))
        }
        3 => {
            let modifier = "{type: URLRewrite, urlRewrite: {hostname: inner.test, path: {type: ReplaceFullPath, replaceFullPath: /items}}}";
            format!("{{{matches}, filters: [{modifier}], {}}}", backends(random))
        }
        4 => format!("{{{matches}, backendRefs: [{{name: nowhere, port: 80}}]}}"),
        _ => format!("{{{matches}, {}}}", backends(random)),
    }
}

fn operation(random: &mut StdRng) -> String {
    let mut parts = Vec::new();
    if random.random_bool(0.6) {
        parts.push(format!("paths: [{}]", path_match(random)));
    }
    if random.random_bool(0.3) {
        parts.push(format!("methods: [{}]", one(random, &METHODS)));
    }
    if parts.is_empty() || random.random_bool(0.2) {
        parts.push("ports: [http]".to_owned());
    }
    format!("{{{}}}", parts.join(", "))
}

fn source(random: &mut StdRng) -> &'static str {
    match random.random_range(0..5) {
        0 => "{services: [web-weft]}",
        1 => "{services: [shop/web-envoy, nobody]}",
        2 => "{namespaces: [shop]}",
        3 => "{identities: ['spiffe://mesh.local/ns/shop/svc/web-weft']}",
        _ => "{namespaces: [elsewhere]}",
    }
}

fn authorization_rule(random: &mut StdRng, index: usize) -> String {
    let mut parts = Vec::new();
    if random.random_bool(0.5) {
        parts.push(format!("name: r{index}"));
    }
    if random.random_bool(0.5) {
        parts.push(format!("from: [{}]", source(random)));
    }
    if random.random_bool(0.7) {
        parts.push(format!("to: [{}]", operation(random)));
    }
    if random.random_bool(0.3) {
        let values = one(random, &["red", "blue", "red, blue", "'a.b*'"]);
        parts.push(format!("when: [{{header: x-team, values: [{values}]}}]"));
    }
    format!("{{{}}}", parts.join(", "))
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    let version = "apiVersion: weft.dev/v1";
    let metadata = format!("metadata: {{name: {name}, namespace: shop, labels: {{of: question}}}}");
    format!("{version}\nkind: {kind}\n{metadata}\nspec: {{{spec}}}\n---\n")
}

/// A set of policies, all of them labelled `of: question`.
pub fn policies(random: &mut StdRng) -> String {
    let default = if random.random_bool(0.3) { "Deny" } else { "Allow" };
    let mut text = format!(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: mesh}}\nspec: {{defaults: {{authorization: {default}}}}}\n---\n"
    );
    for index in 0..random.random_range(1..=2) {
        let mut rules: Vec<String> = (0..random.random_range(1..=3)).map(|_| rule(random)).collect();
        // Most sets take everything somewhere: else most answers would be 404.
        if random.random_bool(0.7) {
            rules.push(format!("{{{}}}", backends(random)));
        }
        let spec = format!("parentRefs: [{{name: door, port: 80}}], rules: [{}]", rules.join(", "));
        text += &document("HTTPRoute", &format!("route-{index}"), &spec);
    }
    for index in 0..random.random_range(0..=4) {
        let target = match random.random_range(0..4) {
            0 => "{kind: Namespace, name: shop}".to_owned(),
            _ => format!("{{kind: Service, name: {}}}", one(random, &BACKENDS)),
        };
        let action = if random.random_bool(0.5) { "Deny" } else { "Allow" };
        let count = random.random_range(1..=2);
        let rules: Vec<String> = (0..count).map(|index| authorization_rule(random, index)).collect();
        let spec = format!("targetRefs: [{target}], action: {action}, rules: [{}]", rules.join(", "));
        text += &document("AuthorizationPolicy", &format!("policy-{index}"), &spec);
    }
    text
}

/// A request, often an odd one.
pub fn request(random: &mut StdRng) -> Asked {
    let service = match random.random_range(0..12) {
        0..=2 => one(random, &BACKENDS),
        3 => "nobody",
        _ => "door",
    };
    let host = match random.random_range(0..9) {
        0 => format!("{service}.shop"),
        1 => format!("{service}.shop.mesh:80"),
        2 => format!("{}.Shop", service.to_uppercase()),
        3 => format!("{service}:81"),
        _ => service.to_owned(),
    };
    let mut path = path(random);
    if random.random_bool(0.35) {
        let odd = [
            "//", "/..", "/./", "/%2e%2e/", "/%2F", "/x;y=1", "/..;/", "/%61dmin", "/%00", "/a%20b",
            "/b%5Cc", "/", "/%C3%A9", "/%zz",
        ];
        path.push_str(one(random, &odd));
        path.push_str(one(random, &["", "a", "admin", "/b"]));
    }
    if random.random_bool(0.3) {
        path.push_str(one(random, &["?q=1", "?q=2&q=1", "?q=a%2Fb", "?r=/../admin", "?q", "?"]));
    }
    let mut headers = Vec::new();
    // One at most: which of several values counts differs between versions of Envoy.
    if random.random_bool(0.6) {
        let odd = ["red,blue", "blue, red", " red ", "a.b*", "rot é", "\tred"];
        let value = if random.random_bool(0.7) { one(random, &TEAMS) } else { one(random, &odd) };
        headers.push(("x-team", value.to_owned()));
    }
    let method = METHODS.choose(random).copied().unwrap_or("GET");
    Asked { method, service, host, path, headers }
}
