//! What roles allow, and that nobody gives what they do not have.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use proptest::prelude::*;

use weft_api::Name;
use weft_policies::kinds::Kind;
use weft_policies::kinds::role::effect::MissingRight;
use weft_policies::kinds::role::{ApiKind, RoleVerb};
use weft_policies::{PolicySet, parse};

fn name(text: &str) -> Name {
    Name::try_new(text).unwrap()
}

fn set(documents: &str) -> PolicySet {
    PolicySet::default().apply(&parse("test", documents).unwrap()).unwrap().set
}

/// What becomes of a change by somebody with the rights that `before` gives.
fn change(before: &PolicySet, who: &str, documents: &str) -> Result<PolicySet, MissingRight> {
    let applied = before.apply(&parse("test", documents).unwrap()).unwrap();
    before.rights_of(&name(who)).check_change(before, &applied)?;
    Ok(applied.set)
}

fn role(role: &str, verbs: &str, kinds: &str, namespaces: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Role\nmetadata: {{name: {role}}}\nspec: {{rules: [{{verbs: [{verbs}], kinds: [{kinds}], \
         namespaces: [{namespaces}]}}]}}\n---\n"
    )
}

fn binding(binding: &str, role: &str, principal: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: RoleBinding\nmetadata: {{name: {binding}}}\nspec: {{role: {role}, subjects: \
         [{{principal: {principal}}}]}}\n---\n"
    )
}

const SERVICE: &str = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{name: http, port: 80, protocol: HTTP}]}\n";

#[test]
fn nobody_may_anything_without_a_binding() {
    let rights = set(&role("editor", "Read, Write, Delete", "'*'", "'*'")).rights_of(&name("ann"));
    for kind in ApiKind::all() {
        assert!(RoleVerb::ALL.iter().all(|verb| !rights.may_somewhere(*verb, kind)), "{kind}");
    }
}

#[test]
fn rights_are_of_the_verbs_kinds_and_namespaces_that_are_written() {
    let set =
        set(&(role("editor", "Read, Write", "Service, Proxy", "shop") + &binding("b", "editor", "ann")));
    let rights = set.rights_of(&name("ann"));
    let may = |verb, kind, namespace: &str| rights.may(verb, kind, Some(&name(namespace)));
    let service = ApiKind::Document(Kind::Service);
    assert!(may(RoleVerb::Write, service, "shop") && may(RoleVerb::Read, ApiKind::Proxy, "shop"));
    assert!(!may(RoleVerb::Delete, service, "shop") && !may(RoleVerb::Write, service, "other"));
    assert!(
        !may(RoleVerb::Read, ApiKind::Document(Kind::Mesh), "shop")
            && !rights.may(RoleVerb::Read, service, None)
    );
    assert!(change(&set, "ann", SERVICE).is_ok());
    let refused = change(&set, "bob", SERVICE).unwrap_err();
    assert_eq!(refused.to_string(), "Write Service in namespace shop");
}

#[test]
fn star_does_not_mean_roles() {
    let set = set(&(role("all", "Read, Write, Delete", "'*'", "'*'") + &binding("b", "all", "ann")));
    let refused = change(&set, "ann", &binding("mine", "all", "ann")).unwrap_err();
    assert_eq!(refused.to_string(), "Write RoleBinding in namespace default");
}

#[test]
fn who_may_write_roles_gives_what_they_have_and_no_more() {
    let lead = "Role, RoleBinding, Service";
    let set = set(&(role("lead", "Read, Write", lead, "default, shop")
        + &role("admin", "Read, Write, Delete", "'*'", "'*'")
        + &binding("b", "lead", "ann")));
    assert!(
        change(&set, "ann", &(role("dev", "Write", "Service", "shop") + &binding("c", "dev", "bob"))).is_ok()
    );
    for more in [
        role("dev", "Delete", "Service", "shop"),
        role("dev", "Write", "Service", "other"),
        role("dev", "Write", "Service", "'*'"),
        role("dev", "Write", "'*'", "shop"),
        role("lead", "Read, Write", "'*'", "default, shop"),
        binding("c", "admin", "ann"),
        binding("c", "yet-to-come", "ann"),
    ] {
        assert!(change(&set, "ann", &more).is_err(), "{more}");
    }
}

fn verb() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["Read", "Write", "Delete", "Read, Write", "Read, Write, Delete"])
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Service",
        "'*'",
        "Role, RoleBinding",
        "Proxy",
        "Role, RoleBinding, Service, Tap",
    ])
}

fn namespace() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["'*'", "default", "shop", "default, shop"])
}

/// A document about roles, of four roles, three bindings and three people.
fn document() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..4, verb(), kind(), namespace()).prop_map(|(n, verbs, kinds, ns)| role(
            &format!("r{n}"),
            verbs,
            kinds,
            ns
        )),
        (0..3, 0..5, 0..3).prop_map(|(n, of, who)| binding(
            &format!("b{n}"),
            &format!("r{of}"),
            &format!("p{who}")
        )),
    ]
}

proptest! {
    /// Whatever one person changes, step by step, nobody has then what neither they nor the changer had before.
    #[test]
    fn nobody_gives_what_they_do_not_have(
        start in prop::collection::vec(document(), 0..8),
        steps in prop::collection::vec(document(), 0..8),
    ) {
        let mut now = PolicySet::default();
        for documents in start {
            now = now.apply(&parse("start", &documents).unwrap()).unwrap().set;
        }
        let changer = now.rights_of(&name("p0"));
        let people = ["p0", "p1", "p2"].map(name);
        let before = people.clone().map(|person| now.rights_of(&person));
        for documents in steps {
            if let Ok(after) = change(&now, "p0", &documents) {
                now = after;
            }
        }
        let namespaces = [None, Some(name("default")), Some(name("shop")), Some(name("other"))];
        for (person, had) in people.iter().zip(before) {
            let has = now.rights_of(person);
            for kind in ApiKind::all() {
                for verb in RoleVerb::ALL {
                    for namespace in namespaces.iter().map(Option::as_ref) {
                        if has.may(verb, kind, namespace) {
                            prop_assert!(
                                had.may(verb, kind, namespace) || changer.may(verb, kind, namespace),
                                "{person} may {verb} {kind} in {namespace:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
