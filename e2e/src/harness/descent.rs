//! Who descends from a process: looked up in /proc, as it is not told to anybody else.

use std::path::Path;

use anyhow::Context as _;

/// Ids of the children of a process whose program has that name.
#[must_use]
pub fn children(parent: u32, name: &str) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let (own, of) = stat(*pid).unwrap_or_default();
        of == parent && own == name
    };
    processes().into_iter().filter(is_child).collect()
}

/// The one child of a process whose program has that name.
///
/// # Errors
/// When there is none, or there are several.
pub fn child(parent: u32, name: &str) -> anyhow::Result<u32> {
    match children(parent, name)[..] {
        [only] => Ok(only),
        ref found => anyhow::bail!("{parent} has {} children called {name}", found.len()),
    }
}

/// Command lines of the processes whose environment or command line names a path: whatever descends from a process that
/// was started with it.
#[must_use]
pub fn marked_by(path: &Path) -> Vec<String> {
    let mark = path.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for pid in processes() {
        let part = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
        let (line, environment) = (text(part("cmdline")), text(part("environ")));
        if line.contains(&mark) || environment.contains(&mark) {
            found.push(line);
        }
    }
    found
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Name and parent.
fn stat(pid: u32) -> anyhow::Result<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (head, tail) = text.rsplit_once(')').context("no name")?;
    let name = head.split_once('(').context("no name")?.1.to_owned();
    let parent = tail.split_whitespace().nth(1).context("no parent")?.parse()?;
    Ok((name, parent))
}
