//! The extensions of a CA's certificate.

use weft_api::{SpiffeId, TrustDomain};
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_CRL_DISTRIBUTION_POINTS, OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::X509Certificate;

use super::super::unfit::Unfit;
use super::{AGAIN, Below, Fitness};

/// Checks the extensions of the certificate that stands `index` above the lowest one.
pub(super) fn check(
    fitness: &Fitness<'_>,
    which: &str,
    index: usize,
    certificate: &X509Certificate<'_>,
) -> Result<(), Unfit> {
    check_understood(which, certificate.extensions())?;
    let malformed = |field| move |_| Unfit::new(which, field, "stands twice or cannot be read", AGAIN);
    let basic = certificate.basic_constraints().map_err(malformed("basicConstraints"))?;
    let Some(basic) = basic.filter(|basic| basic.value.ca) else {
        let remedy = "have it signed with basicConstraints=critical,CA:TRUE";
        return Err(Unfit::new(which, "basicConstraints", "it is no CA", remedy));
    };
    let needed = index + usize::from(fitness.below == Below::Issuers);
    if let Some(length) = basic.value.path_len_constraint
        && usize::try_from(length).is_ok_and(|length| length < needed)
    {
        let reason = format!("pathLen is {length}, and {needed} CAs stand below it");
        let remedy = match fitness.below {
            Below::Issuers => format!(
                "have it signed with pathlen:{needed} or more, or have the mesh's own issuer signed (weft ca csr)"
            ),
            Below::Leaves => format!("have it signed with pathlen:{needed} or more"),
        };
        return Err(Unfit::new(which, "basicConstraints", reason, remedy));
    }
    let usage = certificate.key_usage().map_err(malformed("keyUsage"))?;
    if let Some(usage) = usage {
        let signs_lists = index > 0 || fitness.below == Below::Issuers || usage.value.crl_sign();
        if !usage.value.key_cert_sign() || !signs_lists {
            let reason = "it does not permit to sign certificates and revocation lists";
            let remedy = "have it signed with keyUsage=critical,keyCertSign,cRLSign";
            return Err(Unfit::new(which, "keyUsage", reason, remedy));
        }
    }
    let extended = certificate.extended_key_usage().map_err(malformed("extKeyUsage"))?;
    if extended.is_some_and(|usage| !usage.value.any && !(usage.value.server_auth && usage.value.client_auth))
    {
        let reason = "it does not permit serverAuth and clientAuth, which each workload needs";
        return Err(Unfit::new(which, "extKeyUsage", reason, "have it signed with both, or with none"));
    }
    let names = certificate.subject_alternative_name().map_err(malformed("subjectAltName"))?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        check_name(fitness.trust_domain, which, name)?;
    }
    let constraints = certificate.name_constraints().map_err(malformed("nameConstraints"))?;
    constraints.map_or(Ok(()), |found| check_constraints(fitness.trust_domain, which, found.value))
}

/// What a verifier does not understand of a critical extension it must refuse.
fn check_understood(which: &str, extensions: &[X509Extension<'_>]) -> Result<(), Unfit> {
    let understood = [
        OID_X509_EXT_BASIC_CONSTRAINTS,
        OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_EXTENDED_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME,
        OID_X509_EXT_NAME_CONSTRAINTS,
        OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    ];
    for extension in extensions {
        let is_read = !matches!(
            extension.parsed_extension(),
            ParsedExtension::ParseError { .. } | ParsedExtension::UnsupportedExtension { .. }
        );
        if extension.critical && !(is_read && understood.contains(&extension.oid)) {
            let reason = format!("{} is critical, and proxies do not understand it", extension.oid);
            return Err(Unfit::new(which, "extensions", reason, AGAIN));
        }
    }
    Ok(())
}

fn check_name(trust_domain: &TrustDomain, which: &str, name: &GeneralName<'_>) -> Result<(), Unfit> {
    let GeneralName::URI(uri) = name else { return Ok(()) };
    let Some(domain) = uri.strip_prefix("spiffe://") else { return Ok(()) };
    if domain == trust_domain.as_str() {
        return Ok(());
    }
    let reason = format!("it names {uri}, and the mesh is {}", SpiffeId::control_plane(trust_domain));
    Err(Unfit::new(which, "subjectAltName", reason, "use a CA of this trust domain, or one that names none"))
}

fn check_constraints(
    trust_domain: &TrustDomain,
    which: &str,
    constraints: &NameConstraints<'_>,
) -> Result<(), Unfit> {
    let subtrees = |trees: &Option<Vec<GeneralSubtree<'_>>>| trees.iter().flatten().count();
    let refused = |reason: String| {
        Unfit::new(
            which,
            "nameConstraints",
            reason,
            "constrain DNS names only, or have it signed without any",
        )
    };
    if subtrees(&constraints.permitted_subtrees) + subtrees(&constraints.excluded_subtrees) == 0 {
        return Err(refused("they are empty".to_owned()));
    }
    let excluded = constraints.excluded_subtrees.iter().flatten();
    for (tree, is_excluded) in constraints
        .permitted_subtrees
        .iter()
        .flatten()
        .map(|tree| (tree, false))
        .chain(excluded.map(|tree| (tree, true)))
    {
        match &tree.base {
            GeneralName::URI(uri) => {
                return Err(refused(format!("they speak of the URI {uri}, and weft-proxy refuses such")));
            }
            GeneralName::IPAddress(_) => {
                return Err(refused("they speak of IP addresses, and stock Envoy refuses such".to_owned()));
            }
            GeneralName::DNSName(name) if is_excluded && is_within(name, trust_domain.as_str()) => {
                return Err(refused(format!("they exclude {name}, where workloads have their names")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether one of two DNS names is the other, or below it.
fn is_within(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_start_matches('.'), other.trim_start_matches('.'));
    let below = |low: &str, high: &str| {
        low.strip_suffix(high).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    one.is_empty() || below(one, other) || below(other, one)
}
