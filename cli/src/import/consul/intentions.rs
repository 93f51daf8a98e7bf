//! Intentions: who may call whom.
//!
//! Of the intentions that fit a call, Consul takes one: that of the caller's own name before that of all callers, that of the
//! service before that of all services. Here a Deny always wins, and where a service has an Allow, what no Allow matches is
//! refused. So each service gets what its intentions decide together, and what cannot be said so is refused, with a note.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::catalog::ConsulCatalog;
use super::matching::{ValueTest, methods, value_test, written_path};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::names;
use crate::import::options::{DefaultIntention, ImportOptions};

/// One source of an intention.
#[derive(Debug, Clone)]
struct SourceIntention<'a> {
    /// The caller; nothing for all.
    source: Option<ServiceId>,
    decision: IntentionDecision,
    node: InputNode<'a>,
}

#[derive(Debug, Clone)]
enum IntentionDecision {
    Allow,
    Deny,
    /// By request: whether each is let pass, and `to` and `when` of a rule. The first that fits decides, else the default.
    Permissions(Vec<(bool, Value)>),
    /// Something that Weft cannot say, which was noted.
    Unknown,
}

/// What a service's intentions come to.
#[derive(Debug, Default)]
struct ServiceRules {
    /// Whether rules about all callers stand beside those with intentions of their own.
    is_shared: bool,
    allow: Vec<Value>,
    deny: Vec<Value>,
}

pub(super) fn import<'a>(catalog: &ConsulCatalog<'a>, options: &ImportOptions, drafts: &mut Drafts<'a>) {
    let of_all: Vec<SourceIntention<'a>> =
        catalog.intentions_of_all.iter().flat_map(|spec| sources(catalog, spec)).collect();
    let written = of_all.iter().find(|one| one.source.is_none());
    let default = match written.map(|one| &one.decision) {
        Some(IntentionDecision::Allow) => Some(DefaultIntention::Allow),
        Some(IntentionDecision::Deny) => Some(DefaultIntention::Deny),
        Some(IntentionDecision::Permissions(_) | IntentionDecision::Unknown) => {
            written.inspect(|one| {
                one.node.not_carried("only allow and deny are carried for all callers of all services");
            });
            options.default_intention
        }
        None => options.default_intention,
    };
    let any_entry =
        catalog.intentions.first().map(|entry| &entry.spec).or_else(|| catalog.intentions_of_all.first());
    if let (Some(DefaultIntention::Deny), Some(of)) = (default, written.map(|one| &one.node).or(any_entry)) {
        drafts.mesh(of).set(&["defaults", "authorization"], "Deny");
    }
    let mut by_service: BTreeMap<ServiceId, Vec<SourceIntention<'a>>> = BTreeMap::new();
    for entry in &catalog.intentions {
        by_service.entry(entry.id.clone()).or_default().extend(sources(catalog, &entry.spec));
    }
    let named: Vec<&SourceIntention<'a>> = of_all.iter().filter(|one| one.source.is_some()).collect();
    if !named.is_empty() {
        let known: BTreeSet<&ServiceId> = catalog.defaults.keys().chain(catalog.resolvers.keys()).collect();
        for service in known {
            by_service.entry(service.clone()).or_default();
        }
    }
    for one in &named {
        one.node.differs("holds for the services of these files: one that comes later needs it too");
    }
    for (service, mut own) in by_service {
        let has = |own: &[SourceIntention<'a>], source| own.iter().any(|one| one.source == source);
        for one in named.iter().filter(|_| !has(&own, None)).copied().collect::<Vec<_>>() {
            if !has(&own, one.source.clone()) {
                own.push(one.clone());
            }
        }
        if !own.is_empty() {
            import_service(catalog, &service, &own, default, drafts);
        }
    }
}

fn import_service<'a>(
    catalog: &ConsulCatalog<'a>,
    service: &ServiceId,
    own: &[SourceIntention<'a>],
    default: Option<DefaultIntention>,
    drafts: &mut Drafts<'a>,
) {
    let star = own.iter().find(|one| one.source.is_none());
    let decided = match star.map(|one| &one.decision) {
        Some(IntentionDecision::Allow) => Some(DefaultIntention::Allow),
        Some(IntentionDecision::Deny) => Some(DefaultIntention::Deny),
        Some(IntentionDecision::Unknown) => Some(DefaultIntention::Deny),
        Some(IntentionDecision::Permissions(_)) | None => default,
    };
    let by_request = own.iter().any(|one| matches!(one.decision, IntentionDecision::Permissions(_)));
    let (Some(rest), true) = (decided, default.is_some() || !by_request) else {
        for one in own {
            one.node.not_carried(
                "what no intention decides is decided by Consul's ACL default policy, which no entry tells: say it with \
                 --default-intention allow or deny",
            );
        }
        return;
    };
    let mut rules =
        ServiceRules { is_shared: own.len() > 1 && by_request_of_all(star), ..ServiceRules::default() };
    for one in own {
        rules.add(one, rest, default.unwrap_or(rest), service);
    }
    let is_closed = rest == DefaultIntention::Deny;
    if !is_closed && (!rules.allow.is_empty() || default == Some(DefaultIntention::Deny)) {
        rules.allow = vec![json!({"name": "everybody"})];
    }
    // Where the Mesh does not refuse everybody, or the service says so itself.
    if is_closed && rules.allow.is_empty() && (star.is_some() || default != Some(DefaultIntention::Deny)) {
        rules.deny = vec![json!({"name": "everybody"})];
    }
    let usual = if by_request { "HTTP" } else { "TCP" };
    let first = &own[0].node;
    catalog.service(service, usual, first, drafts);
    for (action, suffix, rules) in
        [("Allow", "intentions", rules.allow), ("Deny", "intentions-deny", rules.deny)]
    {
        let name = format!("{}-{suffix}", service.name);
        let Ok(id) = ServiceId::try_new(service.namespace.as_str(), &name) else {
            first.not_carried(format!("{name} is too long a name"));
            continue;
        };
        if rules.is_empty() {
            continue;
        }
        for one in own {
            drafts.object(Kind::AuthorizationPolicy, id.clone(), &one.node);
        }
        drafts.object(Kind::AuthorizationPolicy, id, first).write(json!({
            "targetRefs": [{"kind": "Service", "name": service.name}],
            "action": action,
            "rules": rules,
        }));
    }
}

fn by_request_of_all(star: Option<&SourceIntention<'_>>) -> bool {
    star.is_some_and(|one| matches!(one.decision, IntentionDecision::Permissions(_)))
}

impl ServiceRules {
    /// Adds what one source comes to, where `rest` happens to callers that no intention names and `default` to requests that
    /// no permission fits.
    fn add(
        &mut self,
        one: &SourceIntention<'_>,
        rest: DefaultIntention,
        default: DefaultIntention,
        service: &ServiceId,
    ) {
        let is_closed = rest == DefaultIntention::Deny;
        let name = one
            .source
            .as_ref()
            .map_or_else(|| "everybody".to_owned(), |source| format!("from-{}", source.name));
        let rule = |suffix: &str, mut rule: Value| {
            rule["name"] = json!(format!("{name}{suffix}"));
            if let Some(source) = &one.source {
                rule["from"] = json!([{"services": [names::reference(source, &service.namespace)]}]);
            }
            rule
        };
        match (&one.decision, one.source.is_some()) {
            (IntentionDecision::Allow | IntentionDecision::Deny | IntentionDecision::Unknown, false) => {}
            (IntentionDecision::Allow, true) if is_closed => self.allow.push(rule("", json!({}))),
            (IntentionDecision::Allow, true) => {}
            // Nobody lets this one pass.
            (IntentionDecision::Unknown, true) if is_closed && !self.is_shared => {}
            (IntentionDecision::Deny | IntentionDecision::Unknown, true) => {
                self.deny.push(rule("", json!({})));
            }
            (IntentionDecision::Permissions(permissions), is_named) => {
                let expressible = ordered(permissions, default);
                let is_refused = match (&expressible, default) {
                    (None, _) => Some("a permission that takes back a part of one before it cannot be said"),
                    (Some((deny, _)), _) if !is_named && !deny.is_empty() && self.is_shared => Some(
                        "a refusal for all callers would hold for those with intentions of their own too",
                    ),
                    (Some(_), _) if is_named && self.is_shared => {
                        Some("the permissions of all callers would hold for this one too")
                    }
                    (Some(_), DefaultIntention::Deny) if !is_closed => {
                        Some("all other callers pass, so that this one cannot be kept to its permissions")
                    }
                    (Some(_), _) => None,
                };
                if let Some(why) = is_refused {
                    one.node.not_carried(format!("refused altogether here: {why}"));
                    self.deny.push(rule("", json!({})));
                    return;
                }
                let (deny, allow) = expressible.unwrap_or_default();
                let numbered = |rules: Vec<Value>, what: &str| -> Vec<Value> {
                    let each = rules.into_iter().enumerate();
                    each.map(|(index, one)| rule(&format!("-{what}-{}", index + 1), one)).collect()
                };
                self.deny.extend(numbered(deny, "deny"));
                match default {
                    DefaultIntention::Deny => self.allow.extend(numbered(allow, "allow")),
                    DefaultIntention::Allow if is_closed && is_named => self.allow.push(rule("", json!({}))),
                    DefaultIntention::Allow => {}
                }
            }
        }
    }
}

/// Permissions as what is refused and what is let pass, where a refusal wins; nothing where their order says more.
fn ordered(permissions: &[(bool, Value)], default: DefaultIntention) -> Option<(Vec<Value>, Vec<Value>)> {
    let says_more = |(allows, _): &(bool, Value)| *allows != (default == DefaultIntention::Allow);
    // What stands behind the last one that differs from the default says what the default says.
    let count = permissions.iter().rposition(says_more).map_or(0, |last| last + 1);
    let (mut deny, mut allow) = (Vec::new(), Vec::new());
    for (allows, rule) in &permissions[..count] {
        match allows {
            true => allow.push(rule.clone()),
            false if !allow.is_empty() => return None,
            false => deny.push(rule.clone()),
        }
    }
    Some((deny, allow))
}

/// The sources of an entry. A later one of the same caller is noted.
fn sources<'a>(catalog: &ConsulCatalog<'a>, spec: &InputNode<'a>) -> Vec<SourceIntention<'a>> {
    let is_for_tokens = spec.get("jwt");
    if let Some(jwt) = &is_for_tokens {
        jwt.not_carried(
            "tokens are not carried: write an AuthenticationPolicy; its callers are refused here",
        );
    }
    let mut found: Vec<SourceIntention<'a>> = Vec::new();
    for node in spec.list("sources") {
        for field in ["precedence", "legacyID", "legacyMeta", "legacyCreateTime", "legacyUpdateTime", "type"]
        {
            node.get(field).inspect(InputNode::aside);
        }
        node.get("description").inspect(|node| node.not_carried("words for people are not carried"));
        let foreign = ["peer", "samenessGroup"].into_iter().find_map(|field| node.get(field));
        if let Some(foreign) = foreign {
            foreign.not_carried("there are no other clusters");
            node.aside();
            continue;
        }
        if node.get("partition").is_some_and(|partition| partition.text() != Some("default")) {
            node.not_carried("there are no admin partitions here");
            continue;
        }
        let name = node.get("name");
        let source = match name.as_ref().and_then(InputNode::text) {
            Some("*") => None,
            _ => match catalog.id(name.as_ref(), node.get("namespace").as_ref()) {
                Some(source) => Some(source),
                None => {
                    node.not_carried("has no name that can be taken");
                    continue;
                }
            },
        };
        let mut decision = decision(&node);
        if is_for_tokens.is_some() && !matches!(decision, IntentionDecision::Deny) {
            decision = IntentionDecision::Unknown;
        }
        if found.iter().any(|one| one.source == source) {
            node.not_carried("the same caller stands further up");
        } else {
            found.push(SourceIntention { source, decision, node });
        }
    }
    found
}

fn decision(node: &InputNode<'_>) -> IntentionDecision {
    let permissions = node.list("permissions");
    if permissions.is_empty() {
        let action = node.get("action");
        return match action.as_ref().and_then(InputNode::text) {
            Some("allow") => IntentionDecision::Allow,
            Some("deny") => IntentionDecision::Deny,
            _ => {
                node.not_carried("is neither allow nor deny: refused here");
                IntentionDecision::Unknown
            }
        };
    }
    let mut found = Vec::new();
    for permission in permissions {
        match read_permission(&permission) {
            Some(read) => found.push(read),
            None => {
                node.not_carried(
                    "a permission cannot be carried, so that this caller is refused altogether here",
                );
                return IntentionDecision::Unknown;
            }
        }
    }
    IntentionDecision::Permissions(found)
}

/// Whether a permission lets pass, and the rest of a rule.
fn read_permission(permission: &InputNode<'_>) -> Option<(bool, Value)> {
    if let Some(jwt) = permission.get("jwt") {
        jwt.not_carried("tokens are not carried: write an AuthenticationPolicy");
        return None;
    }
    let allows = match permission.get("action")?.text()? {
        "allow" => true,
        "deny" => false,
        _ => return None,
    };
    let Some(http) = permission.get("http") else { return Some((allows, json!({}))) };
    let mut operation = json!({});
    if let Some((field, text, _)) = written_path(&http) {
        let path = match field {
            "pathExact" => Some(("Exact", text.to_owned())),
            // Any path fits it.
            "pathPrefix" if text == "/" => None,
            // By letters, as Consul compares: a prefix of whole elements would let others pass.
            "pathPrefix" => Some(("RegularExpression", format!("{}.*", regex::escape(text)))),
            _ => Some(("RegularExpression", text.to_owned())),
        };
        if let Some((kind, value)) = path {
            operation["paths"] = json!([{"type": kind, "value": value}]);
        }
    }
    let methods = methods(&http)?;
    if !methods.is_empty() {
        operation["methods"] = json!(methods);
    }
    let mut when = Vec::new();
    for node in http.list("header") {
        let name = node.get("name")?.text()?;
        match value_test(&node)? {
            ValueTest::Exact(value) => when.push(json!({"header": name, "values": [value]})),
            ValueTest::Expression(_) => {
                node.not_carried("a rule compares whole values of headers only");
                return None;
            }
        }
    }
    let mut rule = json!({});
    if operation != json!({}) {
        rule["to"] = json!([operation]);
    }
    if !when.is_empty() {
        rule["when"] = json!(when);
    }
    Some((allows, rule))
}
