//! Control planes that this user has logged in to: `${XDG_CONFIG_HOME:-~/.config}/weft/`.
//!
//! | file | holds |
//! | --- | --- |
//! | `contexts/NAME.json` | an API with its roots and the operator's token; mode 0600 |
//! | `current` | the name of the one in use |
//!
//! Whoever else could write here would choose whom the operator talks to, and whoever could read would be one: both are
//! refused with the remedy. Files are renamed into place whole, which replaces a link and does not follow it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::NamedTempFile;
use weft_api::Context;

const CURRENT: &str = "current";
const SUFFIX: &str = "json";
/// A context is a kilobyte or two.
const LARGEST: u64 = 1 << 20;

/// What a context is called: also the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextName(String);

impl ContextName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host of an API, or of its first replica, with its port where that is not the usual one.
    pub fn of_api(api: &str) -> anyhow::Result<Self> {
        let first = api.split(',').next().unwrap_or_default().trim();
        let place = first.split_once("://").map_or(first, |(_, place)| place).trim_end_matches('/');
        let place = place.strip_suffix(":7400").unwrap_or(place).replace(['[', ']'], "");
        let name: String = place.replace(':', "-");
        name.parse()
            .map_err(|reason: String| anyhow::anyhow!("{api} makes no name ({reason}); give one by --name"))
    }
}

impl FromStr for ContextName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 100 || text.starts_with(['.', '-']) || !text.chars().all(is_plain)
        {
            return Err(
                "a name has 1 to 100 letters, digits, '-', '_' and '.', and begins with a letter or digit"
                    .into(),
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for ContextName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// All contexts of a user.
#[derive(Debug)]
pub struct Contexts {
    dir: PathBuf,
}

impl Contexts {
    /// Those of the user who runs this; none where there is no home.
    pub fn of_user() -> Option<Self> {
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home =
            || Some(PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(".config"));
        Some(Self::within(&config.or_else(home)?))
    }

    /// Those below that directory of settings.
    pub fn within(config: &Path) -> Self {
        Self { dir: config.join("weft") }
    }

    /// The names, in order.
    pub fn names(&self) -> anyhow::Result<Vec<ContextName>> {
        let entries = match self.folder().read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| self.folder().display().to_string()),
        };
        let named = |file: OsString| file.to_str()?.strip_suffix(SUFFIX)?.strip_suffix('.')?.parse().ok();
        let mut names: Vec<ContextName> =
            entries.flatten().filter_map(|entry| named(entry.file_name())).collect();
        names.sort();
        Ok(names)
    }

    /// The control plane that was logged in to under this name; `None` where there is none.
    pub fn read(&self, name: &ContextName) -> anyhow::Result<Option<Context>> {
        let path = self.file(name);
        let Some(text) = self.private(&path)? else { return Ok(None) };
        let context =
            serde_json::from_str(&text).with_context(|| format!("{}: is no context", path.display()))?;
        Ok(Some(context))
    }

    /// The one in use.
    pub fn current(&self) -> anyhow::Result<Option<ContextName>> {
        let path = self.dir.join(CURRENT);
        let Some(text) = self.private(&path)? else { return Ok(None) };
        let name = text.trim().parse();
        Ok(Some(name.map_err(|reason: String| anyhow::anyhow!("{}: {reason}", path.display()))?))
    }

    /// Keeps a context under a name.
    pub fn store(&self, name: &ContextName, context: &Context) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(context)? + "\n";
        self.write(&self.file(name), &text)
    }

    /// How long ago one was written; none where there is none of that name.
    pub fn age(&self, name: &ContextName) -> Option<Duration> {
        fs::metadata(self.file(name)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Uses one from now on.
    pub fn choose(&self, name: &ContextName) -> anyhow::Result<()> {
        self.write(&self.dir.join(CURRENT), &format!("{name}\n"))
    }

    /// Forgets one; false when there is none of that name.
    pub fn remove(&self, name: &ContextName) -> anyhow::Result<bool> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
        if self.current()?.as_ref() == Some(name) {
            let current = self.dir.join(CURRENT);
            fs::remove_file(&current).with_context(|| current.display().to_string())?;
        }
        Ok(true)
    }

    fn folder(&self) -> PathBuf {
        self.dir.join("contexts")
    }

    fn file(&self, name: &ContextName) -> PathBuf {
        self.folder().join(format!("{name}.{SUFFIX}"))
    }

    /// Reads a file that nobody else may read or have written.
    fn private(&self, path: &Path) -> anyhow::Result<Option<String>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        self.check_folders()?;
        let metadata = file.metadata().with_context(|| path.display().to_string())?;
        ensure_own(path, &metadata)?;
        if metadata.mode() & 0o077 != 0 {
            let (path, mode) = (path.display(), metadata.mode() & 0o777);
            bail!(
                "{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`, and have its token replaced"
            );
        }
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).with_context(|| path.display().to_string())?;
        Ok(Some(text))
    }

    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let shown = || path.display().to_string();
        DirBuilder::new().recursive(true).mode(0o700).create(self.folder()).with_context(shown)?;
        self.check_folders()?;
        let folder = path.parent().unwrap_or(&self.dir);
        // Made with mode 0600, under a name that nobody can guess.
        let mut file = NamedTempFile::new_in(folder).with_context(shown)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).with_context(shown)?;
        file.persist(path).with_context(shown)?;
        Ok(())
    }

    fn check_folders(&self) -> anyhow::Result<()> {
        for folder in [self.dir.clone(), self.folder()] {
            let metadata = fs::metadata(&folder).with_context(|| folder.display().to_string())?;
            ensure_own(&folder, &metadata)?;
            let shown = folder.display();
            ensure!(
                metadata.mode() & 0o022 == 0,
                "{shown} can be written to by others: run `chmod go-w {shown}`"
            );
        }
        Ok(())
    }
}

fn ensure_own(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    ensure!(
        metadata.uid() == user,
        "{} belongs to user {} and this is user {user}: it is not used",
        path.display(),
        metadata.uid()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn name(text: &str) -> ContextName {
        text.parse().unwrap()
    }

    fn context(api: &str) -> Context {
        Context { api: api.to_owned(), roots: String::new(), token: "weftop.secret".to_owned() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn contexts_are_kept_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts::within(home.path());
        assert!(contexts.names().unwrap().is_empty() && contexts.current().unwrap().is_none());
        contexts.store(&name("b"), &context("https://b:7400")).unwrap();
        contexts.store(&name("a"), &context("https://a:7400")).unwrap();
        contexts.choose(&name("b")).unwrap();
        assert_eq!(contexts.names().unwrap(), [name("a"), name("b")]);
        assert_eq!(contexts.current().unwrap(), Some(name("b")));
        assert_eq!(contexts.read(&name("a")).unwrap().unwrap().api, "https://a:7400");
        assert_eq!((mode(&contexts.file(&name("a"))), mode(&contexts.dir)), (0o600, 0o700));
        assert!(contexts.remove(&name("b")).unwrap() && !contexts.remove(&name("b")).unwrap());
        assert_eq!((contexts.current().unwrap(), contexts.names().unwrap()), (None, vec![name("a")]));
    }

    #[test]
    fn what_others_could_read_or_write_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts::within(home.path());
        contexts.store(&name("a"), &context("https://a:7400")).unwrap();
        let file = contexts.file(&name("a"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = contexts.read(&name("a")).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&contexts.dir, fs::Permissions::from_mode(0o770)).unwrap();
        for refused in [contexts.read(&name("a")).unwrap_err(), contexts.choose(&name("a")).unwrap_err()] {
            assert!(refused.to_string().contains("chmod go-w"), "{refused}");
        }
    }

    #[test]
    fn link_in_the_place_of_a_context_is_replaced_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let contexts = Contexts::within(home.path());
        contexts.store(&name("a"), &context("https://a:7400")).unwrap();
        let target = home.path().join("elsewhere");
        fs::write(&target, "untouched").unwrap();
        let file = contexts.file(&name("a"));
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        contexts.store(&name("a"), &context("https://a:7400")).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
    }

    #[test]
    fn names_are_file_names() {
        for good in ["a", "10.0.0.1", "mesh.example-7443"] {
            good.parse::<ContextName>().unwrap();
        }
        for bad in ["", ".", "../a", "a/b", "-a", "a b", &"a".repeat(101)] {
            bad.parse::<ContextName>().unwrap_err();
        }
        for (api, expected) in [
            ("https://10.0.0.1:7400", "10.0.0.1"),
            ("https://mesh.example:443/", "mesh.example-443"),
            ("https://a.example:7400,https://b.example:7400", "a.example"),
            ("https://[2001:db8::1]:7400", "2001-db8--1"),
        ] {
            assert_eq!(ContextName::of_api(api).unwrap().as_str(), expected);
        }
    }
}
