//! `/certs`: the certificates in use and the roots behind them. Never a key.

use std::time::SystemTime;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::response::AdminResponse;
use crate::config_dump::timestamp;
use crate::control::ControlHandle;
use crate::decode::SecretPlan;

pub(super) async fn render(handle: &ControlHandle) -> AdminResponse {
    let shown = handle.inspect(|state| {
        let mut own = Vec::new();
        let mut roots = Vec::new();
        let mut secrets: Vec<_> = state.world.usable_secrets().iter().collect();
        secrets.sort_by_key(|(key, _)| *key);
        for ((_, name), secret) in secrets {
            match secret {
                SecretPlan::Identity(identity) => {
                    own.extend(identity.certificate().chain.iter().map(|der| details(name, der)));
                }
                SecretPlan::Trust(trust) => roots.extend(trust.roots.iter().map(|der| details(name, der))),
            }
        }
        json!({ "certificates": [{ "ca_cert": roots, "cert_chain": own }] })
    });
    shown.await.map_or_else(AdminResponse::gone, |value| AdminResponse::json(&value))
}

fn details(name: &str, der: &[u8]) -> Value {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return json!({ "path": name, "error": "cannot be read" });
    };
    let time = |time: &x509_parser::time::ASN1Time| SystemTime::from(time.to_datetime());
    let validity = certificate.validity();
    let left = time(&validity.not_after).duration_since(SystemTime::now()).unwrap_or_default();
    let sans = certificate.subject_alternative_name().ok().flatten();
    let sans =
        sans.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(json!({ "uri": uri })),
            GeneralName::DNSName(dns) => Some(json!({ "dns": dns })),
            _ => None,
        });
    let serial = HEXLOWER.encode(certificate.raw_serial());
    json!({
        "path": format!("<secret {name}>"),
        "serial_number": serial,
        "subject_alt_names": sans.collect::<Vec<_>>(),
        "days_until_expiration": (left.as_secs() / 86_400).to_string(),
        "valid_from": timestamp(time(&validity.not_before)),
        "expiration_time": timestamp(time(&validity.not_after)),
    })
}
