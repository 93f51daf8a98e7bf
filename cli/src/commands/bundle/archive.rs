//! The file of a bundle: what fits into it, and what was cut.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of one file; the rest is cut.
const LARGEST: usize = 4 << 20;
/// Bytes of all files together; what comes after that is left out.
const MOST: usize = 64 << 20;

/// Files, in the order in which they matter.
#[derive(Debug, Default)]
pub struct Archive {
    files: Vec<(String, String)>,
    bytes: usize,
    /// What is not there, or not whole, and why.
    pub notes: Vec<String>,
}

impl Archive {
    /// Adds a file, as far as there is room.
    pub fn add(&mut self, name: &str, mut text: String) {
        if text.len() > LARGEST {
            let end = (0..=LARGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
            self.notes.push(format!("{name}: cut, {} of {} bytes are here", end, text.len()));
            text.truncate(end);
        }
        if self.bytes + text.len() > MOST {
            self.notes.push(format!("{name}: left out, the bundle has {} MiB", MOST >> 20));
            return;
        }
        self.bytes += text.len();
        self.files.push((name.to_owned(), text));
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Writes all of it below a folder, into a new file that only its owner reads. Gives its size.
    ///
    /// # Errors
    /// When there is such a file, or it cannot be written.
    pub fn write(self, path: &Path, folder: &str, made_at: u64) -> anyhow::Result<u64> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("--out {}", path.display()))?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(made_at);
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
        }
        let mut file = archive.into_inner()?.finish()?;
        file.flush()?;
        Ok(file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_cut_and_said() {
        let mut archive = Archive::default();
        archive.add("small", "text".to_owned());
        archive.add("large", "ä".repeat(LARGEST));
        for number in 0..20 {
            archive.add(&format!("more-{number}"), "x".repeat(LARGEST));
        }
        assert!(archive.notes[0].starts_with("large: cut, 4194304 of 8388608"), "{:?}", archive.notes);
        assert!(
            archive.notes.iter().any(|note| note.starts_with("more-19: left out")),
            "{:?}",
            archive.notes
        );
        assert!(archive.bytes <= MOST && archive.len() == 16, "{}", archive.len());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.gz");
        let size = archive.write(&path, "weft-debug", 0).unwrap();
        assert!(size > 0 && size < MOST as u64);
        assert!(Archive::default().write(&path, "x", 0).is_err(), "a file that exists is left alone");
    }
}
