//! Finding the API, its roots and its token.
//!
//! What is given counts. What is not is sought where a control plane of this machine leaves it, in its data directory, and
//! then among the contexts of `weft login`:
//!
//! 1. `--context NAME`: that context as it is
//! 2. `--token-file`, `WEFT_TOKEN`: that token, for `--api`, else for the API that is named beside the token's file
//! 3. `./weft-data`: the control plane that was started in this directory
//! 4. the context in use; with `--api`, the one of that API
//!
//! A token that was not given is sent to the API that it was found with, and to nobody else.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use weft_api::client::ApiClient;
use weft_api::{Context, Host};

use crate::args::Access;
use crate::commands::context::missing;
use crate::contexts::{ContextName, Contexts};
use crate::replicas::ReplicaClients;

/// Data directory of a control plane that was started here without flags.
const LOCAL_DATA: &str = "weft-data";
const TOKEN: &str = "operator.token";
const ROOTS: &str = "ca.pem";
const API: &str = "api.url";
/// How often the roots of a context are compared with the mesh's.
const ROOTS_CHECKED: Duration = Duration::from_secs(3600);
/// That is no reason to wait.
const ROOTS_TIMEOUT: Duration = Duration::from_secs(2);
/// What the history of the policies says that a change was made with.
const USER_AGENT: &str = concat!("weft/", env!("CARGO_PKG_VERSION"));
/// Where a control plane that was started without flags serves.
const DEFAULT_API: &str = "http://127.0.0.1:7400";

/// A client of the first replica, with the token that applies here.
pub fn client(access: &Access) -> anyhow::Result<ApiClient> {
    Ok(clients(&find(access)?, access.timeout)?.swap_remove(0))
}

/// The control plane, as what is given or found names its replicas.
pub fn replicas(access: &Access) -> anyhow::Result<ReplicaClients> {
    clients(&find(access)?, access.timeout).map(ReplicaClients::new)
}

/// All replicas of that control plane.
pub fn all_of(context: &Context) -> anyhow::Result<ReplicaClients> {
    clients(context, None).map(ReplicaClients::new)
}

/// A client of the first replica of that control plane.
pub fn connect(context: &Context) -> anyhow::Result<ApiClient> {
    Ok(clients(context, None)?.swap_remove(0))
}

fn clients(context: &Context, timeout: Option<Duration>) -> anyhow::Result<Vec<ApiClient>> {
    let roots: Vec<_> = CertificateDer::pem_slice_iter(context.roots.as_bytes()).collect::<Result<_, _>>()?;
    parts(&context.api)
        .map(|api| {
            let client = ApiClient::try_new(api, &context.token, &roots)?.with_user_agent(USER_AGENT);
            Ok(match timeout {
                Some(timeout) => client.with_timeout(timeout),
                None => client,
            })
        })
        .collect()
}

/// The API that applies here, with its token and roots.
pub fn find(access: &Access) -> anyhow::Result<Context> {
    let contexts = Contexts::of_user();
    find_among(access, std::env::var("WEFT_TOKEN").ok(), Path::new(LOCAL_DATA), contexts.as_ref())
}

fn find_among(
    access: &Access,
    token: Option<String>,
    local: &Path,
    contexts: Option<&Contexts>,
) -> anyhow::Result<Context> {
    if let Some(name) = &access.context {
        let contexts = contexts.context("contexts lie in the home directory, and HOME is not set")?;
        let context = contexts.read(name)?.ok_or_else(|| missing(contexts, name))?;
        if let Some(api) = access.api.as_ref().filter(|api| !are_of(api, &context.api)) {
            bail!(
                "--api {api}: the context {name} is of {}, and its token is sent to nobody else",
                context.api
            );
        }
        return Ok(context);
    }
    if let Some(path) = &access.token_file {
        let beside = path.parent().filter(|_| path.file_name().is_some_and(|name| name == TOKEN));
        return with_token(access, read(path)?, beside.unwrap_or(local));
    }
    if let Some(token) = token {
        return with_token(access, token, local);
    }
    let own = local.join(TOKEN);
    if own.exists() {
        return of_this_directory(access, read(&own)?, local);
    }
    if let Some(context) = kept(access, contexts)? {
        return Ok(context);
    }
    bail!(
        "no operator token{}: log in (weft login FILE), set WEFT_TOKEN, give --token-file, or run where the control \
         plane's {} is",
        access.api.as_ref().map(|api| format!(" for {api}")).unwrap_or_default(),
        own.display()
    )
}

/// A token that was given goes where it is told to go.
fn with_token(access: &Access, token: String, data: &Path) -> anyhow::Result<Context> {
    let api = match &access.api {
        Some(api) => api.clone(),
        None => local_api(data)?,
    };
    let roots = match &access.ca {
        Some(path) => roots(path).with_context(|| format!("--ca {}", path.display()))?,
        None if api.contains("https://") => local_roots(data)?,
        None => String::new(),
    };
    Ok(Context { api, roots, token })
}

/// A token that lies here is for the control plane here: for its API, for another of this machine, and for another
/// replica, which has a certificate of the same roots.
fn of_this_directory(access: &Access, token: String, data: &Path) -> anyhow::Result<Context> {
    if let (Some(api), Some(_)) = (&access.api, &access.ca) {
        let own = local_api(data)?;
        ensure!(
            are_of(api, &own) || are_loopback(api),
            "--api {api}: the token in {} is for {own}, and is not sent to another mesh; give --token-file",
            data.display()
        );
    }
    with_token(access, token, data)
}

/// Brings the roots of the context that was used up to date, at most once in a while: the mesh's root is replaced now and
/// then, and who knows it by the old one alone is let in until that one ends. What cannot be done now is done another time.
pub async fn follow_roots(access: &Access) {
    let Some(contexts) = Contexts::of_user() else { return };
    let is_elsewhere =
        access.token_file.is_some() || access.ca.is_some() || std::env::var("WEFT_TOKEN").is_ok();
    if is_elsewhere || (access.context.is_none() && Path::new(LOCAL_DATA).join(TOKEN).exists()) {
        return;
    }
    let name = match &access.context {
        Some(name) => Some(name.clone()),
        None => kept_name(access, &contexts).ok().flatten(),
    };
    let Some(name) = name.filter(|name| contexts.age(name).is_some_and(|age| age > ROOTS_CHECKED)) else {
        return;
    };
    let Ok(Some(context)) = contexts.read(&name) else { return };
    if context.roots.is_empty() {
        return;
    }
    let Ok(client) = clients(&context, Some(ROOTS_TIMEOUT)).map(|mut clients| clients.swap_remove(0)) else {
        return;
    };
    let Ok(status) = client.ca().await else { return };
    let roots: String = status.roots.iter().map(|root| root.pem.as_str()).collect();
    let is_new = !roots.is_empty() && roots != context.roots;
    let followed = if is_new { Context { roots, ..context } } else { context };
    match contexts.store(&name, &followed) {
        Ok(()) if is_new => eprintln!("the mesh's roots have changed; the context {name} has the new ones"),
        Ok(()) => {}
        Err(error) => {
            eprintln!("warning: the roots of the context {name} are not brought up to date: {error:#}");
        }
    }
}

/// The context in use, or that of the API which is given.
fn kept(access: &Access, contexts: Option<&Contexts>) -> anyhow::Result<Option<Context>> {
    let Some(contexts) = contexts else { return Ok(None) };
    let Some(name) = kept_name(access, contexts)? else { return Ok(None) };
    let Some(mut context) = contexts.read(&name)? else { return Ok(None) };
    if let Some(path) = &access.ca {
        context.roots = roots(path).with_context(|| format!("--ca {}", path.display()))?;
    }
    Ok(Some(context))
}

fn kept_name(access: &Access, contexts: &Contexts) -> anyhow::Result<Option<ContextName>> {
    let Some(api) = &access.api else { return contexts.current() };
    for name in contexts.names()? {
        if contexts.read(&name)?.is_some_and(|context| are_of(api, &context.api)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// An API for each replica.
fn parts(api: &str) -> impl Iterator<Item = &str> {
    api.split(',').map(|api| api.trim().trim_end_matches('/'))
}

/// Whether all of these are replicas of that control plane.
fn are_of(given: &str, own: &str) -> bool {
    parts(given).all(|given| parts(own).any(|own| own.eq_ignore_ascii_case(given)))
}

fn are_loopback(given: &str) -> bool {
    parts(given).all(|api| {
        let place = api.split_once("://").map_or(api, |(_, place)| place);
        weft_api::host_and_port(place).is_ok_and(|(host, _): (Host, _)| host.is_loopback())
    })
}

fn local_api(data: &Path) -> anyhow::Result<String> {
    let path = data.join(API);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DEFAULT_API.to_owned()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn local_roots(data: &Path) -> anyhow::Result<String> {
    let path = data.join(ROOTS);
    if path.exists() { roots(&path).with_context(|| path.display().to_string()) } else { Ok(String::new()) }
}

fn roots(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?;
    ensure!(!found.is_empty(), "there is no certificate in it; give the control plane's {ROOTS}");
    Ok(text)
}

/// Reads a token file.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token_file: Option<&Path>) -> Access {
        Access {
            api: None,
            token_file: token_file.map(Path::to_owned),
            ca: None,
            context: None,
            timeout: None,
        }
    }

    fn to(api: &str) -> Access {
        Access { api: Some(api.to_owned()), ..access(None) }
    }

    fn kept_contexts(home: &Path) -> Contexts {
        let contexts = Contexts::within(home);
        for (name, api) in [("one", "https://one.example:7400"), ("two", "https://two.example:7400")] {
            let context =
                Context { api: api.to_owned(), roots: String::new(), token: format!("weftop.{name}") };
            contexts.store(&name.parse().unwrap(), &context).unwrap();
        }
        contexts.choose(&"one".parse().unwrap()).unwrap();
        contexts
    }

    #[test]
    fn api_of_a_control_plane_is_found_beside_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join(TOKEN);
        std::fs::write(&token, "weftop.x").unwrap();
        let found = |access: &Access| client(access).map(|client| client.api().to_owned());
        assert_eq!(found(&access(Some(&token))).unwrap(), DEFAULT_API);
        std::fs::write(dir.path().join(API), "https://10.0.0.1:7400\n").unwrap();
        assert_eq!(found(&access(Some(&token))).unwrap(), "https://10.0.0.1:7400");
        let given = Access { api: Some("http://127.0.0.1:9".to_owned()), ..access(Some(&token)) };
        assert_eq!(found(&given).unwrap(), "http://127.0.0.1:9");
        let two = Access { api: Some("http://127.0.0.1:9,http://127.0.0.1:10".to_owned()), ..given };
        let two =
            clients(&find(&two).unwrap(), None).unwrap().into_iter().map(|client| client.api().to_owned());
        assert_eq!(two.collect::<Vec<_>>(), ["http://127.0.0.1:9", "http://127.0.0.1:10"]);
    }

    #[test]
    fn file_without_a_root_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (token, ca) = (dir.path().join(TOKEN), dir.path().join("empty.pem"));
        std::fs::write(&token, "weftop.x").unwrap();
        std::fs::write(&ca, "").unwrap();
        let api = Some("https://10.0.0.1:7400".to_owned());
        let error = client(&Access { api, ca: Some(ca.clone()), ..access(Some(&token)) }).unwrap_err();
        assert!(format!("{error:#}").contains(&ca.display().to_string()), "{error:#}");
    }

    #[test]
    fn what_is_given_comes_before_this_directory_and_that_before_contexts() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = kept_contexts(dir.path());
        let (data, none) = (dir.path().join("data"), dir.path().join("none"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(TOKEN), "weftop.here").unwrap();
        let found = |access: &Access, token: Option<&str>, data: &Path| {
            find_among(access, token.map(str::to_owned), data, Some(&contexts)).unwrap().token
        };
        assert_eq!(found(&access(None), Some("weftop.given"), &data), "weftop.given");
        assert_eq!(found(&access(None), None, &data), "weftop.here");
        assert_eq!(found(&access(None), None, &none), "weftop.one");
        assert_eq!(found(&to("https://two.example:7400/"), None, &none), "weftop.two");
        let named = Access { context: Some("two".parse().unwrap()), ..access(None) };
        assert_eq!(found(&named, Some("weftop.given"), &data), "weftop.two");
    }

    #[test]
    fn token_that_was_found_is_sent_to_its_own_api_only() {
        let dir = tempfile::tempdir().unwrap();
        let contexts = kept_contexts(dir.path());
        let (data, none, ca) = (dir.path().join("data"), dir.path().join("none"), dir.path().join("ca.pem"));
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(TOKEN), "weftop.here").unwrap();
        let refused = |access: &Access, data: &Path| {
            find_among(access, None, data, Some(&contexts)).unwrap_err().to_string()
        };
        let elsewhere = to("https://elsewhere.example:7400");
        assert!(refused(&elsewhere, &none).contains("no operator token for https://elsewhere"));
        let named = Access { context: Some("two".parse().unwrap()), ..elsewhere.clone() };
        assert!(refused(&named, &none).contains("sent to nobody else"));
        let of_another_mesh = Access { ca: Some(ca), ..elsewhere };
        assert!(refused(&of_another_mesh, &data).contains("not sent to another mesh"));
    }
}
