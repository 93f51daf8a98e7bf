//! What a start needs before anything runs: a program, a token, a place for the identity.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context as _, bail};
use rustix::fs::{Access, access};
use tempfile::TempDir;
use weft_api::client::{ApiClient, ClientError};
use weft_api::flags::UsageError;
use weft_api::rest::{Object, TokenRequest};
use weft_api::{JoinToken, ServiceId};

use crate::args::Run;
use crate::commands::bootstrap::is_for;

/// A program that cannot be started, with the code that shells give.
#[derive(Debug)]
pub enum NoProgram {
    /// No file has this name, in none of the directories of `PATH`.
    Missing(String),
    /// It is no program.
    Forbidden(String),
}

impl std::fmt::Display for NoProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(word) if word.contains('/') => write!(f, "{word}: there is no such program"),
            Self::Missing(word) => write!(f, "{word}: there is no such program on PATH"),
            Self::Forbidden(word) => write!(f, "{word}: it may not be executed (chmod +x {word})"),
        }
    }
}

impl NoProgram {
    /// As `env` and shells exit.
    pub fn code(&self) -> u8 {
        match self {
            Self::Missing(_) => 127,
            Self::Forbidden(_) => 126,
        }
    }
}

/// Looks for a program as the start of it would, so that nothing is joined for one that is not there.
pub fn find_program(word: &OsStr) -> Result<(), NoProgram> {
    let candidates: Vec<PathBuf> = if word.as_encoded_bytes().contains(&b'/') {
        vec![word.into()]
    } else {
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|folder| folder.join(word)).collect()
    };
    let there: Vec<&PathBuf> = candidates.iter().filter(|path| path.is_file()).collect();
    let shown = word.to_string_lossy().into_owned();
    if there.is_empty() {
        return Err(NoProgram::Missing(shown));
    }
    let may_start = |path: &&PathBuf| access(path.as_path(), Access::EXEC_OK).is_ok();
    if there.iter().any(may_start) { Ok(()) } else { Err(NoProgram::Forbidden(shown)) }
}

/// A sidecar that runs there already would answer in the place of ours.
pub fn ensure_free(admin: SocketAddr) -> anyhow::Result<()> {
    match TcpListener::bind(admin) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "--admin-listen {admin} is taken, by another sidecar perhaps; several share a machine on addresses of their \
             own: --address 127.0.0.2, and so on, where others call from this machine only, else --inbound, --outbound \
             and --admin-listen"
        ),
        // Whatever else is wrong, the sidecar says it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where the identity is kept.
#[derive(Debug)]
pub enum Home {
    /// Here, for the next start too.
    Kept(PathBuf),
    /// In a directory that is gone at the end.
    Forgotten(TempDir),
}

impl Home {
    /// The directory that is given, else a new one.
    pub fn new(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = given {
            return Ok(Self::Kept(path.to_owned()));
        }
        let made = tempfile::Builder::new().prefix("weft-run-").tempdir();
        let made = made.with_context(|| {
            format!(
                "no directory for the identity in {}: give one by --identity-dir DIR",
                env::temp_dir().display()
            )
        })?;
        Ok(Self::Forgotten(made))
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Forgotten(directory) => directory.path(),
        }
    }

    /// Whether an earlier start left an identity.
    pub fn is_joined(&self) -> bool {
        self.path().join("workload.json").is_file()
    }
}

/// The token that is given, else one that is made for `--service`; none where an identity is kept and no token is given.
/// `client` is asked for only when a token has to be made.
pub async fn token(
    client: impl FnOnce() -> anyhow::Result<ApiClient>,
    args: &Run,
    home: &Home,
) -> anyhow::Result<Option<JoinToken>> {
    let given = if args.token.is_gone() && home.is_joined() { None } else { args.token.read()? };
    match (given, &args.service) {
        (Some(token), service) => {
            is_for(&token, service.as_ref())?;
            Ok(Some(token))
        }
        (None, _) if home.is_joined() => Ok(None),
        (None, Some(service)) => {
            let client = client()?;
            ensure_service(&client, service, &args.sidecar.app_ports).await?;
            let request = TokenRequest {
                service: service.to_string(),
                allow_labels: args.sidecar.labels.clone(),
                ..TokenRequest::default()
            };
            Ok(Some(client.create_token(&request).await?.token.parse()?))
        }
        (None, None) => {
            let reason =
                "say which service the application belongs to, or give a token by --join-file or WEFT_JOIN";
            Err(UsageError::Flag { flag: "--service", reason: reason.to_owned() }.into())
        }
    }
}

/// A service that is missing, or has no such port, would be joined all the same and called by nobody.
async fn ensure_service(client: &ApiClient, service: &ServiceId, app_ports: &[String]) -> anyhow::Result<()> {
    let found = client.object("services", service.namespace.as_str(), service.name.as_str()).await;
    let object = match found {
        Ok(object) => object,
        Err(ClientError::Refused(problem)) if problem.status == 404 => bail!(
            "there is no service {service} in the mesh. Apply one (weft apply -f FILE), for instance\n\n{}",
            example(service, app_ports)
        ),
        Err(error) => return Err(error.into()),
    };
    let names = port_names(&object);
    for given in app_ports {
        let name = given.split('=').next().unwrap_or_default();
        if !names.iter().any(|known| known == name) {
            bail!("--app-port {given}: service {service} has no port {name:?}, but {}", names.join(", "));
        }
    }
    Ok(())
}

fn port_names(service: &Object) -> Vec<String> {
    let ports = service.spec["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| port["name"].as_str().map(str::to_owned)).collect()
}

/// A Service as these flags would have it.
fn example(service: &ServiceId, app_ports: &[String]) -> String {
    let port = |given: &str| {
        let (name, port) = given.split_once('=').unwrap_or((given, "8080"));
        let protocol = match name {
            "grpc" => "GRPC",
            "h2" | "http2" => "HTTP2",
            name if name.starts_with("http") => "HTTP",
            _ => "TCP",
        };
        format!("    - name: {name}\n      port: {port}\n      protocol: {protocol}\n")
    };
    let mut ports: String = app_ports.iter().map(|given| port(given)).collect();
    if ports.is_empty() {
        ports = port("http=8080");
    }
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  ports:\n{ports}",
        service.name, service.namespace
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_sought_as_shells_do() {
        find_program(OsStr::new("sh")).unwrap();
        find_program(OsStr::new("/bin/sh")).unwrap();
        assert_eq!(find_program(OsStr::new("./nowhere")).unwrap_err().code(), 127);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(find_program(file.path().as_os_str()).unwrap_err().code(), 126);
    }

    #[test]
    fn service_that_is_suggested_would_be_taken() {
        let service = "shop/web".parse().unwrap();
        for ports in [vec![], vec!["http=8080".to_owned(), "grpc=9000".to_owned(), "db=5432".to_owned()]] {
            let text = example(&service, &ports);
            let documents = weft_policies::parse("example", &text).unwrap();
            assert_eq!(documents.len(), 1, "{text}");
        }
    }
}
