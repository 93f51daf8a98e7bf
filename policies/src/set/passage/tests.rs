use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SERVICES: &str = "
apiVersion: weft.dev/v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80, protocol: HTTP}, {name: tcp, port: 5432, protocol: TCP}]}
";

fn set(more: &[String]) -> PolicySet {
    let text =
        std::iter::once(SERVICES.to_owned()).chain(more.iter().cloned()).collect::<Vec<_>>().join("---\n");
    let documents = crate::parse("test", &text).unwrap_or_else(|found| panic!("{found:#?}\n{text}"));
    PolicySet::default().apply(&documents).unwrap_or_else(|found| panic!("{found:#?}")).set
}

fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: cart}}], action: {action}, rules: {rules}}}\n"
    )
}

fn passage(set: &PolicySet, port: &str) -> Passage {
    let service: ServiceId = "shop/cart".parse().unwrap();
    let object = set.service(&service).unwrap();
    let port = object.spec.ports.iter().find(|one| one.name.as_str() == port).unwrap();
    set.passage(&"shop/web".parse().unwrap(), &service, port, &"mesh.local".parse().unwrap())
}

fn effect(before: &[String], after: &[String]) -> PassageChange {
    passage(&set(before), "http").effect(&passage(&set(after), "http"))
}

#[test]
fn no_policy_lets_pass_and_a_deny_of_the_caller_refuses() {
    assert_eq!(passage(&set(&[]), "http").verdict(), PassageVerdict::Passes);
    let deny = |from: &str| [policy("a", "Deny", &format!("[{{name: r, from: [{from}]}}]"))];
    for from in [
        "{services: [web]}",
        "{services: [shop/web, other/x]}",
        "{namespaces: [shop]}",
        "{identities: ['spiffe://mesh.local/ns/shop/svc/web']}",
        "{services: [web], namespaces: [shop]}",
    ] {
        assert_eq!(passage(&set(&deny(from)), "http").verdict(), PassageVerdict::Refused, "{from}");
        assert_eq!(passage(&set(&deny(from)), "tcp").verdict(), PassageVerdict::Refused, "{from}");
    }
    for from in ["{services: [other/web]}", "{namespaces: [other]}", "{services: [web], namespaces: [other]}"]
    {
        assert_eq!(passage(&set(&deny(from)), "http").verdict(), PassageVerdict::Passes, "{from}");
    }
    assert_eq!(passage(&set(&deny("{cidrs: [10.0.0.0/8]}")), "http").verdict(), PassageVerdict::Depends);
}

#[test]
fn what_a_rule_depends_on_is_named() {
    let rules = "[{name: r, from: [{cidrs: [10.0.0.0/8]}], to: [{methods: [GET], ports: [80]}, {paths: [{type: Exact, \
                 value: /a}]}], when: [{header: x-a, values: ['1']}]}]";
    let after = [policy("a", "Deny", rules)];
    let PassageChange::MayBeRefused { denying, no_more_allowing, allowing } = effect(&[], &after) else {
        panic!()
    };
    assert!(no_more_allowing.is_empty() && allowing.is_none());
    let [rule] = &denying[..] else { panic!("{denying:?}") };
    assert_eq!((rule.policy.to_string().as_str(), rule.rule.as_str()), ("AuthorizationPolicy shop/a", "r"));
    let words: Vec<String> = rule.depends_on().iter().map(ToString::to_string).collect();
    assert_eq!(words, ["address", "method", "path", "header x-a"]);
    // A condition on a header cannot be met on a port whose requests are not told apart.
    assert_eq!(passage(&set(&after), "tcp").verdict(), PassageVerdict::Passes);
}

#[test]
fn allow_of_others_refuses_and_allow_of_every_path_lets_pass() {
    let of = |rules: &str| [policy("a", "Allow", rules)];
    let PassageChange::Refused(Refuser::NotAllowed(by)) = effect(&[], &of("[{from: [{services: [other]}]}]"))
    else {
        panic!()
    };
    assert_eq!(by.iter().map(ToString::to_string).collect::<Vec<_>>(), ["AuthorizationPolicy shop/a"]);
    let everything = of("[{from: [{services: [web]}], to: [{paths: [{type: PathPrefix, value: /}]}]}]");
    assert_eq!(effect(&[], &everything), PassageChange::Unaffected);
    assert_eq!(
        passage(&set(&everything), "tcp").verdict(),
        PassageVerdict::Refused,
        "a path is none of a connection's"
    );
    let other_port = of("[{to: [{ports: [tcp]}]}]");
    assert!(matches!(effect(&[], &other_port), PassageChange::Refused(_)));
    assert!(matches!(effect(&of("[{to: [{ports: [tcp]}]}]"), &[]), PassageChange::Eased));
}

#[test]
fn the_same_rules_under_other_names_change_nothing() {
    let get = "to: [{methods: [GET]}]";
    let before = [policy("a", "Allow", &format!("[{{name: x, {get}}}]"))];
    let after = [policy("b", "Allow", &format!("[{{name: y, {get}}}, {{from: [{{services: [other]}}]}}]"))];
    assert_eq!(effect(&before, &after), PassageChange::Unaffected);
    let more = [policy("b", "Allow", &format!("[{{{get}}}, {{to: [{{methods: [PUT]}}]}}]"))];
    assert_eq!(effect(&before, &more), PassageChange::Eased);
    assert!(matches!(effect(&more, &before), PassageChange::MayBeRefused { .. }));
}

/// A request as a rule sees it.
#[derive(Debug, Clone)]
struct RequestInTest {
    method: &'static str,
    path: &'static str,
    header: Option<&'static str>,
}

fn takes(rest: &Remainder, asked: &RequestInTest) -> bool {
    let operation = |(methods, paths, grpc): &(Vec<Method>, Vec<PathMatch>, Vec<String>)| {
        (methods.is_empty() || methods.iter().any(|one| one.as_str() == asked.method))
            && (paths.is_empty() || paths.iter().any(|one| one.value == asked.path))
            && grpc.is_empty()
    };
    rest.sources.is_empty()
        && (rest.operations.is_empty() || rest.operations.iter().any(operation))
        && rest.conditions.iter().all(|one| asked.header.is_some_and(|value| one.values == [value]))
}

fn passes(passage: &Passage, asked: &RequestInTest) -> bool {
    let any = |rules: &[RuleAtPort]| rules.iter().any(|one| takes(&one.remainder, asked));
    !any(&passage.deny) && passage.allow.as_ref().is_none_or(|rules| any(rules))
}

fn rule() -> impl Strategy<Value = String> {
    let from = prop::sample::select(vec!["", "from: [{services: [web]}], ", "from: [{services: [other]}], "]);
    let to = prop::sample::select(vec![
        "",
        "to: [{methods: [GET]}], ",
        "to: [{methods: [PUT]}, {paths: [{type: Exact, value: /a}]}], ",
        "to: [{ports: [tcp]}], ",
        "to: [{methods: [GET], paths: [{type: Exact, value: /a}]}], ",
    ]);
    let when = prop::sample::select(vec!["", "when: [{header: x-a, values: ['1']}]"]);
    (from, to, when).prop_map(|(from, to, when)| format!("{{{from}{to}{when}}}"))
}

fn policies() -> impl Strategy<Value = Vec<String>> {
    let one = (prop::sample::select(vec!["Allow", "Deny"]), prop::collection::vec(rule(), 1..4));
    prop::collection::vec(one, 0..4).prop_map(|all| {
        let named = all.into_iter().enumerate();
        named
            .map(|(index, (action, rules))| {
                policy(&format!("p{index}"), action, &format!("[{}]", rules.join(", ")))
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Each word about an edge holds for every request that could be asked.
    #[test]
    fn what_is_said_of_an_edge_holds_for_each_request(before in policies(), after in policies()) {
        let (before, after) = (passage(&set(&before), "http"), passage(&set(&after), "http"));
        let effect = before.effect(&after);
        let mut seen = BTreeMap::new();
        for method in ["GET", "PUT", "POST"] {
            for path in ["/a", "/b"] {
                for header in [None, Some("1")] {
                    let asked = RequestInTest { method, path, header };
                    let (was, is) = (passes(&before, &asked), passes(&after, &asked));
                    *seen.entry((was, is)).or_insert(0) += 1;
                    match &effect {
                        PassageChange::Unaffected => prop_assert_eq!(was, is, "{:?}", asked),
                        PassageChange::Refused(_) => prop_assert!(!is, "{:?}", asked),
                        PassageChange::Eased => prop_assert!(is || !was, "{:?}", asked),
                        PassageChange::MayBeRefused { .. } => {}
                    }
                }
            }
        }
    }
}

fn tokens(required: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthenticationPolicy\nmetadata: {{name: t, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: cart}}], jwt: {{{required}providers: [{{name: a, issuer: a, \
         jwks: {{uri: 'https://a.test/keys'}}}}]}}}}\n"
    )
}

#[test]
fn where_a_token_is_required_it_depends_on_that() {
    let required = [tokens("")];
    let passes = passage(&set(&required), "http");
    assert_eq!(passes.verdict(), PassageVerdict::Depends);
    let told: Vec<_> = passes.rules().map(|(action, rule)| (action, rule.policy.to_string())).collect();
    assert_eq!(told, [(Action::Deny, "AuthenticationPolicy shop/t".to_owned())]);
    let words: Vec<String> =
        passes.rules().flat_map(|(_, rule)| rule.depends_on()).map(|one| one.to_string()).collect();
    assert_eq!(words, ["token"]);
    assert_eq!(
        passage(&set(&required), "tcp").verdict(),
        PassageVerdict::Passes,
        "a connection has no token"
    );
    assert_eq!(passage(&set(&[tokens("required: false, ")]), "http").verdict(), PassageVerdict::Passes);
    assert!(matches!(effect(&[], &required), PassageChange::MayBeRefused { .. }));
    assert_eq!(effect(&required, &[]), PassageChange::Eased);
    let claims = [policy("a", "Allow", "[{name: r, from: [{services: [web], claims: [{sub: a}]}]}]")];
    assert_eq!(passage(&set(&claims), "http").verdict(), PassageVerdict::Depends);
    assert_eq!(passage(&set(&claims), "tcp").verdict(), PassageVerdict::Refused);
}
