//! The server behind all peers: nginx with one process, which answers from memory and from one small file.

use std::path::Path;

use super::process::PinnedProcess;

/// Where the load and the origin run.
pub const LOAD_PROCESSOR: usize = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 64 bytes.
    Small,
    /// 64 KiB.
    Large,
}

impl Size {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// The path that answers with it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Small => "/small",
            Self::Large => "/large",
        }
    }

    /// As in a table's heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "64 byte",
            Self::Large => "64 KiB",
        }
    }
}

/// Starts it.
pub fn start(dir: &Path, port: u16) -> anyhow::Result<PinnedProcess> {
    std::fs::write(dir.join("large"), vec![b'x'; 64 * 1024])?;
    let small = "y".repeat(64);
    let root = dir.display();
    let locations = format!(
        "location = /small {{ default_type text/plain; return 200 \"{small}\"; }}
         location = /large {{ default_type application/octet-stream; alias {root}/large; }}"
    );
    let config =
        super::configs::nginx(dir, "origin", port, &locations, "open_file_cache max=8; sendfile on;");
    std::fs::write(dir.join("origin.conf"), config)?;
    let program = super::configs::installed("nginx")?;
    let config = format!("{root}/origin.conf");
    let mut origin = PinnedProcess::start(dir, "origin", LOAD_PROCESSOR, &program, &["-c", &config])?;
    Size::ALL.into_iter().try_for_each(|size| origin.answers(port, size.path()))?;
    Ok(origin)
}
