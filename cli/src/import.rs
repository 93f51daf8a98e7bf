//! What people bring along from other meshes, as documents of ours: pure, from texts to documents and notes.
//!
//! ```text
//!   texts ──▶ inputs (each part marked once it is read) ──▶ consul | kuma | app_mesh ──▶ drafts ──▶ checked documents
//!                        └── what nobody has read, and what could not be carried ──▶ notes ◀── what the checks refuse
//! ```
//!
//! Nothing is dropped in silence: a part of an input that no reader has marked is a note. What comes out passes
//! `weft validate`: a draft that does not is left out, with a note.

mod app_mesh;
mod consul;
mod drafts;
mod input;
mod kuma;
mod names;
mod options;
mod order;
#[cfg(test)]
mod tests;

use weft_api::rest::{Severity, Violation};

use drafts::Drafts;
use input::ImportInput;

pub use drafts::ImportedDocument;
pub use options::{DefaultIntention, ImportOptions, ImportSource};

/// What comes of the inputs.
#[derive(Debug, Default)]
pub struct Imported {
    pub documents: Vec<ImportedDocument>,
    /// What could not be carried, and what means something else here, in the order of the inputs.
    pub notes: Vec<Violation>,
}

impl Imported {
    /// All documents as YAML, each below what it was made of.
    pub fn yaml(&self) -> Result<String, serde_yaml::Error> {
        let mut text = String::new();
        for document in &self.documents {
            if !text.is_empty() {
                text.push_str("---\n");
            }
            for origin in &document.origins {
                text.push_str(&format!("# Of {origin}\n"));
            }
            text.push_str(&serde_yaml::to_string(&document.value)?);
        }
        Ok(text)
    }
}

/// Reads texts, each with the name of its file.
///
/// # Errors
/// What keeps a text from being read.
pub fn import(
    source: ImportSource,
    texts: &[(String, String)],
    options: &ImportOptions,
) -> Result<Imported, Vec<Violation>> {
    let mut inputs = Vec::new();
    let mut unread = Vec::new();
    for (file, text) in texts {
        match weft_policies::document::parse_any(file, text) {
            Ok(documents)
                if source == ImportSource::Consul && documents.iter().all(|one| one.value.is_string()) =>
            {
                unread.push(hcl(file));
            }
            Ok(documents) => inputs.extend(documents.into_iter().map(ImportInput::new)),
            Err(_) if source == ImportSource::Consul && looks_like_hcl(file, text) => unread.push(hcl(file)),
            Err(found) => unread.extend(found),
        }
    }
    if !unread.is_empty() {
        return Err(unread);
    }
    let mut drafts = Drafts::default();
    match source {
        ImportSource::Consul => consul::import(&inputs, options, &mut drafts),
        ImportSource::Kuma => kuma::import(&inputs, options, &mut drafts),
        ImportSource::AppMesh => app_mesh::import(&inputs, options, &mut drafts),
    }
    let (documents, refused) = drafts.finish();
    let notes = inputs.into_iter().flat_map(ImportInput::into_notes).chain(refused).collect();
    Ok(Imported { documents, notes })
}

fn looks_like_hcl(file: &str, text: &str) -> bool {
    let assigns = |line: &str| line.trim_start().starts_with("Kind") && line.contains('=');
    file.ends_with(".hcl") || text.lines().any(assigns)
}

fn hcl(file: &str) -> Violation {
    Violation {
        code: "syntax".to_owned(),
        message: "this is HCL, which is not read".to_owned(),
        hint: Some(
            "have Consul print the entry as JSON: consul config read -kind KIND -name NAME".to_owned(),
        ),
        source: file.to_owned(),
        severity: Severity::Error,
        line: 1,
        column: 1,
        ..Violation::default()
    }
}
