//! Compiles the protocols of ours, and makes Envoy's descriptors available to the JSON mapping.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["weft/join/v1/join.proto", "weft/tap/v1/tap.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;

    if std::env::var_os("CARGO_FEATURE_JSON").is_some() {
        // Compressed, since whoever reads them keeps the pages that they lie in for its life, and needs them once.
        let out = PathBuf::from(std::env::var("OUT_DIR")?).join("envoy.bin.gz");
        let mut packed = GzEncoder::new(File::create(out)?, Compression::best());
        packed.write_all(&std::fs::read(envoy_descriptors()?)?)?;
        packed.finish()?;
    }
    Ok(())
}

/// The descriptor set lies in the sources of envoy-types but is not public there; cargo knows where they are.
fn envoy_descriptors() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(std::env::var("CARGO_MANIFEST_DIR")?)
        .output()?;
    let output = if output.status.success() {
        output
    } else {
        Command::new(std::env::var("CARGO")?).args(["metadata", "--format-version", "1"]).output()?
    };
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|all| all.iter().find(|p| p["name"] == "envoy-types"))
        .and_then(|p| p["manifest_path"].as_str())
        .ok_or("cargo metadata does not list envoy-types")?;
    Ok(PathBuf::from(manifest).with_file_name("src").join("generated").join("types.bin"))
}
