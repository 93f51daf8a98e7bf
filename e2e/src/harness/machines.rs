//! Machines of their own on one wire: network namespaces, joined by a bridge in a namespace of its own.
//!
//! ```text
//!            wire (bridge)
//!           ┌─────┼─────┐
//!        alpha   beta  gamma        10.77.0.N/24, a loopback and a host name each
//! ```
//!
//! Nothing of it touches the network of the machine that the test runs on. Everything lives in a user namespace of the
//! test, so that no privileges are needed; where such are forbidden, root does without.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Calls, Process, program, until};

const START: Duration = Duration::from_secs(20);
/// A look into a machine takes no longer.
const LOOK: Duration = Duration::from_secs(40);

/// Where a process runs.
#[derive(Clone, Debug, Default)]
pub struct Place(Vec<OsString>);

impl Place {
    /// Where the test runs.
    #[must_use]
    pub fn here() -> Self {
        Self::default()
    }

    /// Where the test runs, with a disk of so many MiB at a directory that is there, for each process one of its own.
    ///
    /// # Errors
    /// When namespaces cannot be made; the text says what to do.
    pub async fn with_disk(at: &Path, mebibytes: u32) -> anyhow::Result<Self> {
        let at = at.to_str().context("path")?;
        let mounted = format!("mount -t tmpfs -o size={mebibytes}m tmpfs '{at}' && exec \"$0\" \"$@\"");
        let user: &[&str] = match privilege().await? {
            Privilege::OfUserNamespace => &["--user", "--map-root-user"],
            Privilege::OfRoot => &[],
        };
        let words = [&["/usr/bin/unshare"], user, &["--mount", "/bin/sh", "-c", &mounted]].concat();
        Ok(Self(words.into_iter().map(OsString::from).collect()))
    }

    /// What stands before a command to run it there.
    pub(super) fn prefix(&self) -> &[OsString] {
        &self.0
    }

    /// A program there, to be given its arguments.
    #[must_use]
    pub fn command(&self, program: &Path) -> tokio::process::Command {
        let mut words = self.0.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = tokio::process::Command::new(words.next().unwrap_or(program.as_os_str()));
        command.args(words);
        command
    }

    /// Gets a URL there, past any sidecar.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn get(&self, url: &str) -> anyhow::Result<()> {
        if self.0.is_empty() {
            let answer = Calls::direct().get(url).await?;
            anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
            return Ok(());
        }
        self.call(url, None).await.map(drop)
    }

    /// Gets a URL as somebody there does, through a sidecar or directly; returns the body.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn call(&self, url: &str, sidecar: Option<&str>) -> anyhow::Result<String> {
        let through = sidecar.map(|sidecar| format!("--sidecar={sidecar}"));
        self.call_with(url, through.as_deref().as_slice()).await
    }

    /// Gets a URL there with these flags of `weft-demo call`; returns the body.
    ///
    /// # Errors
    /// When the answer is no success.
    pub async fn call_with(&self, url: &str, flags: &[&str]) -> anyhow::Result<String> {
        let arguments = [&["call", url], flags].concat();
        let demo = program::ours("weft-demo")?;
        let output = self.output(&demo, arguments, &[], Path::new("/")).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{url}: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time.
    pub async fn output<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
        dir: &Path,
    ) -> anyhow::Result<Output> {
        let mut command = self.command(program);
        command.args(arguments).envs(environment.iter().copied()).current_dir(dir);
        let output = command.kill_on_drop(true).output();
        Ok(tokio::time::timeout(LOOK, output)
            .await
            .with_context(|| format!("{command:?} does not end"))??)
    }
}

/// The wire, which ends with the test.
#[derive(Debug)]
pub struct MachineNetwork {
    dir: PathBuf,
    holder: NamespaceHolder,
    machines: u8,
}

/// A namespace that lives as long as a process in it.
#[derive(Debug)]
struct NamespaceHolder {
    place: Place,
    process: Process,
}

/// One machine on the wire.
#[derive(Debug)]
pub struct Machine {
    address: Ipv4Addr,
    holder: NamespaceHolder,
}

/// Whether the namespaces are within a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    OfUserNamespace,
    OfRoot,
}

impl MachineNetwork {
    /// Makes the bridge. `dir` takes logs.
    ///
    /// # Errors
    /// When namespaces cannot be made; the text says what to do.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let privilege = privilege().await?;
        let mut words = vec!["/usr/bin/unshare", "--net", "--uts"];
        let mut enter = vec!["--net", "--uts"];
        if privilege == Privilege::OfUserNamespace {
            words.extend(["--user", "--map-root-user"]);
            enter.extend(["--user", "--preserve-credentials"]);
        }
        let around = Place(words.into_iter().map(OsString::from).collect());
        let holder = NamespaceHolder::start(dir, "wire", &around, &enter).await?;
        let wire = Self { dir: dir.to_owned(), holder, machines: 0 };
        wire.ip("link add name bridge type bridge").await?;
        wire.ip("link set bridge up").await?;
        Ok(wire)
    }

    /// Plugs a machine in.
    ///
    /// # Errors
    /// When its namespace or its cable cannot be made.
    pub async fn machine(&mut self, name: &str) -> anyhow::Result<Machine> {
        self.machines = self.machines.checked_add(1).context("too many machines")?;
        let address = Ipv4Addr::new(10, 77, 0, self.machines);
        let mut words: Vec<OsString> = self.holder.place.prefix().to_vec();
        words.extend(["/usr/bin/unshare", "--net", "--uts"].map(OsString::from));
        let mut enter = vec!["--net", "--uts"];
        if self.holder.place.prefix().iter().any(|word| word == "--user") {
            enter.extend(["--user", "--preserve-credentials"]);
        }
        let holder = NamespaceHolder::start(&self.dir, name, &Place(words), &enter).await?;
        let (cable, inside) = (format!("to-{name}"), holder.process.id());
        self.ip(&format!("link add name {cable} type veth peer name eth0 netns {inside}")).await?;
        self.ip(&format!("link set {cable} master bridge up")).await?;
        let machine = Machine { address, holder };
        machine.holder.run("hostname", &[name]).await?;
        machine.add_address(address).await?;
        machine.holder.ip("link set lo up").await?;
        machine.holder.ip("link set eth0 up").await?;
        Ok(machine)
    }

    async fn ip(&self, what: &str) -> anyhow::Result<()> {
        self.holder.ip(what).await
    }
}

impl Machine {
    /// Its address on the wire.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where its processes run.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.holder.place
    }

    /// What runs on it from now on knows the names in `hosts`, a file as /etc/hosts, and no others.
    ///
    /// # Errors
    /// When the path cannot be written into a command.
    pub fn know_hosts(&mut self, hosts: &Path) -> anyhow::Result<()> {
        let hosts = hosts.to_str().context("path")?;
        let bound = format!("mount --bind '{hosts}' /etc/hosts && exec \"$0\" \"$@\"");
        self.holder
            .place
            .0
            .extend(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &bound].map(OsString::from));
        Ok(())
    }

    /// Gives it one more address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn add_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        self.holder.ip(&format!("address add {address}/24 dev eth0")).await
    }
}

impl NamespaceHolder {
    /// `enter` are the flags of nsenter for the namespaces that `around` makes.
    async fn start(dir: &Path, name: &str, around: &Place, enter: &[&str]) -> anyhow::Result<Self> {
        let sleep = Path::new("/usr/bin/sleep");
        let mut process = Process::start_at(around, dir, &format!("{name}-holder"), sleep, |command| {
            command.arg("infinity");
        })?;
        let pid = process.id();
        // The words before the program have done their work when it is the program that runs.
        until(&format!("{name} has its namespaces"), START, async || {
            process.check()?;
            let running = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
            anyhow::ensure!(running.trim() == "sleep", "it is still {}", running.trim());
            Ok(())
        })
        .await?;
        let words = ["/usr/bin/nsenter", "--target", &pid.to_string()].map(OsString::from);
        let words = words.into_iter().chain(enter.iter().map(OsString::from)).chain([OsString::from("--")]);
        Ok(Self { place: Place(words.collect()), process })
    }

    async fn ip(&self, what: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = what.split(' ').collect();
        self.run("ip", &words).await
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let path = program::system(program)?;
        let output = self.place.output(&path, arguments, &[], Path::new("/")).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{program} {arguments:?}: {}", said.trim());
        Ok(())
    }
}

async fn privilege() -> anyhow::Result<Privilege> {
    let unshare = Path::new("/usr/bin/unshare");
    let tried = async |flags: &[&str]| {
        let words = flags.iter().copied().chain(["--net", "--uts", "/usr/bin/true"]);
        let output = Place::here().output(unshare, words, &[], Path::new("/")).await?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        anyhow::Ok(if output.status.success() { None } else { Some(said) })
    };
    let Some(refusal) = tried(&["--user", "--map-root-user"]).await? else {
        return Ok(Privilege::OfUserNamespace);
    };
    let is_root = rustix::process::geteuid().is_root();
    match if is_root { tried(&[]).await? } else { Some(String::new()) } {
        None => Ok(Privilege::OfRoot),
        Some(of_root) => bail!(
            "this test needs network namespaces, and cannot make them. As a user: {refusal}. {} Permit user namespaces \
             (sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0), or run \
             the tests as root with CAP_SYS_ADMIN and CAP_NET_ADMIN",
            if is_root { format!("As root: {of_root}.") } else { "This is not root.".to_owned() }
        ),
    }
}
