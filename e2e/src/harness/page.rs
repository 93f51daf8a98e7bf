//! A page of the documentation, whose files and commands a test uses as they stand there: what people copy works.
//!
//! Blocks have names: the second word of the line that opens them, which readers do not see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Calls, Mesh, Process, program};

const COMMAND: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15);
const ENVOY_FLAGS: &str = "--concurrency 1 --disable-hot-restart --log-level warning";

/// The named blocks of a page.
#[derive(Debug)]
pub struct DocPage {
    text: String,
    blocks: BTreeMap<String, String>,
}

impl DocPage {
    /// Reads a page, by its path in the repository.
    ///
    /// # Errors
    /// When it cannot be read, or two blocks have one name.
    pub fn read(path: &str) -> anyhow::Result<Self> {
        let path = program::root().join(path);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut blocks = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(opening) = lines.by_ref().find_map(|line| line.strip_prefix("```")) {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let Some((_, name)) = opening.split_once(' ') else { continue };
            let twice = blocks.insert(name.to_owned(), block.join("\n") + "\n").is_some();
            ensure!(!twice, "{} has two blocks that are called {name}", path.display());
        }
        Ok(Self { text, blocks })
    }

    /// The whole page.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The block of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn block(&self, name: &str) -> anyhow::Result<&str> {
        self.blocks.get(name).map(String::as_str).with_context(|| format!("the page has no block {name}"))
    }
}

/// A directory in which somebody does what a page says.
#[derive(Debug)]
pub struct Walkthrough {
    dir: PathBuf,
    envoy: PathBuf,
    api: (String, PathBuf),
    /// What stands on the page, and what it is here.
    here: Vec<(String, String)>,
    started: usize,
    keep: Option<Process>,
    proxy: Option<Process>,
}

impl Walkthrough {
    /// An empty directory beside a mesh, and an Envoy.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(mesh: &Mesh, name: &str, envoy: &Path) -> anyhow::Result<Self> {
        let dir = mesh.dir().join(name);
        std::fs::create_dir(&dir)?;
        let (envoy, api) = (envoy.to_owned(), mesh.access());
        Ok(Self { dir, envoy, api, here: Vec::new(), started: 0, keep: None, proxy: None })
    }

    /// Takes something of the page for something of this place: addresses and ports, above all.
    #[must_use]
    pub fn with(mut self, on_the_page: &str, here: &str) -> Self {
        self.here.push((on_the_page.to_owned(), here.to_owned()));
        self
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Text of the page as it has to be here.
    #[must_use]
    pub fn translated(&self, text: &str) -> String {
        self.here.iter().fold(text.to_owned(), |text, (on_the_page, here)| text.replace(on_the_page, here))
    }

    /// Writes a block of the page as the file that it is called after.
    ///
    /// # Errors
    /// When there is no such block, or the file cannot be written.
    pub fn write(&self, page: &DocPage, name: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.dir.join(name), self.translated(page.block(name)?))?)
    }

    /// Does what a block says, line by line, and gives what it printed. Envoy, and what ends in `&`, runs on.
    ///
    /// # Errors
    /// When a command fails or cannot be started.
    pub async fn run(&mut self, page: &DocPage, name: &str) -> anyhow::Result<String> {
        let block = self.translated(page.block(name)?);
        let mut printed = String::new();
        for line in block.lines() {
            printed += &self.run_line(line).await?;
        }
        Ok(printed)
    }

    /// Does one line.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_line(&mut self, line: &str) -> anyhow::Result<String> {
        if let Some(url) = line.strip_prefix("curl -s ") {
            return Ok(Calls::direct().get(url).await?.body);
        }
        if let Some(arguments) = line.strip_prefix("envoy ") {
            let line = format!("{} {ENVOY_FLAGS} {arguments}", self.envoy.display());
            self.proxy = Some(self.start(&line, "envoy")?);
            return Ok(String::new());
        }
        if let Some(line) = line.strip_suffix(" &") {
            self.keep = Some(self.start(line, "keep")?);
            return Ok(String::new());
        }
        self.finished(line).await
    }

    /// Runs a line to its end, and gives what it printed on both its outputs.
    ///
    /// # Errors
    /// When it fails.
    pub async fn finished(&mut self, line: &str) -> anyhow::Result<String> {
        let process = self.start(line, "command")?;
        let log = process.log_path().to_owned();
        let status = process.ended(COMMAND).await?;
        let printed = std::fs::read_to_string(log)?;
        ensure!(status.success(), "{line}: {status}: {printed}");
        Ok(printed)
    }

    fn start(&mut self, line: &str, what: &str) -> anyhow::Result<Process> {
        let ours = program::ours("weft")?;
        let mut path = vec![ours.parent().unwrap_or(Path::new(".")).to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(path)?;
        self.started += 1;
        let stage = self.dir.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{stage}-{}-{what}", self.started);
        let logs = self.dir.parent().unwrap_or(&self.dir);
        Process::start(logs, &name, &program::system("sh")?, |command| {
            // Signals are for the program and not for the shell.
            command.arg("-c").arg(format!("exec {line}")).current_dir(&self.dir);
            command.env("PATH", path).env("WEFT_API", &self.api.0).env("WEFT_TOKEN_FILE", &self.api.1);
        })
    }

    /// The Envoy that runs here.
    ///
    /// # Errors
    /// When none runs, or it has ended.
    pub fn envoy(&mut self) -> anyhow::Result<&Process> {
        let envoy = self.proxy.as_mut().context("no Envoy was started")?;
        envoy.check()?;
        Ok(envoy)
    }

    /// Ends Envoy as a service manager does.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end_envoy(&mut self) -> anyhow::Result<()> {
        match self.proxy.take() {
            Some(envoy) => envoy.end(END).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends what keeps the identity fresh, which says goodbye.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end_keep(&mut self) -> anyhow::Result<()> {
        match self.keep.take() {
            Some(keep) => keep.end(END).await.map(drop),
            None => Ok(()),
        }
    }
}
