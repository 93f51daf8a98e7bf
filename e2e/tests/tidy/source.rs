//! The repository's own files, as the tests here read them.

use std::fs;
use std::path::{Path, PathBuf};

/// What is made, not written. In a second working tree of one repository `.git` is a file.
const MADE: [&str; 6] = [".git", ".tools", ".venv", "target", "weft-data", "node_modules"];

pub struct SourceFile {
    /// From the root of the repository, with slashes.
    pub path: String,
    pub text: String,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the repository").to_owned()
}

/// Every text file of the repository, in order.
pub fn all() -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort_by(|one, two| one.path.cmp(&two.path));
    assert!(found.len() > 100, "found only {} files in {}", found.len(), root.display());
    found
}

/// Every Rust file.
pub fn rust() -> Vec<SourceFile> {
    all().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if MADE.contains(&entry.file_name().to_string_lossy().as_ref()) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.push(SourceFile { path, text });
        }
    }
}

impl SourceFile {
    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "benches")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// The text up to the inline test module.
    pub fn production(&self) -> &str {
        if self.is_test() { "" } else { &self.text[..self.seam()] }
    }

    /// The test code of the file.
    pub fn tests(&self) -> &str {
        if self.is_test() { &self.text } else { &self.text[self.seam()..] }
    }

    fn seam(&self) -> usize {
        self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len())
    }
}

/// Lines that hold code: neither blank nor only a comment.
pub fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
}
