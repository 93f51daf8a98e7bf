//! What makes a Role valid by itself.

use super::{ApiKind, KindPattern, NamespacePattern, Role, RoleRule, RoleVerb};
use crate::finding::{Code, Findings};
use crate::kinds::role_binding::check_of_the_mesh;
use crate::metadata::Metadata;

pub(super) fn check(role: &Role, metadata: &Metadata, out: &mut Findings) {
    check_of_the_mesh("Role", metadata, out);
    if role.rules.is_empty() {
        out.add_at("rules", Code::Required, "a Role without rules allows nothing").hint("write a rule");
    }
    out.each("rules", &role.rules, |out, rule| check_rule(rule, out));
}

fn check_rule(rule: &RoleRule, out: &mut Findings) {
    for (field, is_empty) in [
        ("verbs", rule.verbs.is_empty()),
        ("kinds", rule.kinds.is_empty()),
        ("namespaces", rule.namespaces.is_empty()),
    ] {
        if is_empty {
            out.add_at(field, Code::Required, format!("a rule without {field} allows nothing"));
        }
    }
    let is_everywhere = rule.namespaces.contains(&NamespacePattern::All);
    for kind in rule.kinds.iter().filter_map(|pattern| match pattern {
        KindPattern::All => None,
        KindPattern::One(kind) => Some(*kind),
    }) {
        if kind == ApiKind::Audit && !is_everywhere {
            out.add_at(
                "namespaces",
                Code::Inconsistent,
                "Audit is of no namespace, so that this allows nothing of it",
            )
            .hint("write namespaces: [\"*\"], or leave Audit out");
        }
        let only_read = matches!(kind, ApiKind::Traffic | ApiKind::Tap | ApiKind::Audit);
        let beyond: Vec<&RoleVerb> = rule.verbs.iter().filter(|verb| **verb != RoleVerb::Read).collect();
        if only_read && rule.kinds.len() == 1 && !beyond.is_empty() {
            out.add_at("verbs", Code::Inconsistent, format!("{kind} can only be read"));
        }
    }
}
