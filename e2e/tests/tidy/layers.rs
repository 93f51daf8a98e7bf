//! Who may depend on whom, and what each layer must not touch (ARCHITECTURE.md).

use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::nothing_in;
use crate::source::{self, code};

struct Layer {
    name: &'static str,
    folder: &'static str,
    /// Crates of ours that it may use.
    ours: &'static [&'static str],
    /// Crates of others that it must not use, outside its tests.
    never: &'static [&'static str],
}

const LAYERS: [Layer; 10] = [
    Layer { name: "weft-api", folder: "api", ours: &[], never: &["axum", "tokio-rustls"] },
    Layer { name: "weft-xds", folder: "api/xds", ours: &["weft-api"], never: &["axum", "rustls", "redb"] },
    Layer {
        name: "weft-policies",
        folder: "policies",
        ours: &["weft-api"],
        never: &["tokio", "tonic", "hyper", "rand", "tempfile", "rustix"],
    },
    Layer {
        name: "weft-store",
        folder: "control-plane/store",
        ours: &[],
        never: &["envoy-types", "prost", "axum", "serde_yaml"],
    },
    Layer {
        name: "weft-control-plane",
        folder: "control-plane",
        ours: &["weft-api", "weft-xds", "weft-policies", "weft-store", "weft-routing"],
        never: &["redb", "etcd-client"],
    },
    Layer {
        name: "weft-http1",
        folder: "dataplane/http1",
        ours: &[],
        never: &["hyper", "rustls", "tracing", "envoy-types"],
    },
    Layer {
        name: "weft-routing",
        folder: "dataplane/routing",
        ours: &[],
        never: &["tokio", "hyper", "rustls", "tracing", "rand"],
    },
    Layer {
        name: "weft-dataplane",
        folder: "dataplane",
        ours: &["weft-api", "weft-xds", "weft-http1", "weft-routing"],
        never: &["redb", "etcd-client", "axum"],
    },
    Layer {
        name: "weft-cli",
        folder: "cli",
        ours: &["weft-api", "weft-policies"],
        never: &["redb", "etcd-client", "axum"],
    },
    Layer {
        name: "weft-e2e",
        folder: "e2e",
        ours: &[
            "weft-api",
            "weft-xds",
            "weft-policies",
            "weft-store",
            "weft-control-plane",
            "weft-dataplane",
        ],
        never: &["redb", "etcd-client"],
    },
];

/// What the code of a folder must not mention, outside comments and tests.
struct Forbidden {
    /// Files whose path starts so…
    within: &'static str,
    /// …but not so; or whose name is so, where it begins with a slash.
    except: &'static [&'static str],
    pattern: &'static str,
    why: &'static str,
}

const FORBIDDEN: [Forbidden; 7] = [
    Forbidden {
        within: "policies/src/",
        except: &[],
        pattern: r"\bstd::(fs|env|net::(Tcp|Udp)|process|thread|time::(Instant|SystemTime))|SystemTime|Instant::now",
        why: "policies are pure: no files, environment, clock",
    },
    Forbidden {
        within: "api/xds/src/",
        except: &["api/xds/src/transport"],
        pattern: r"\b(tokio|tonic)::|\bstd::(fs|env|net|thread)\b|(Instant|SystemTime)::now",
        why: "sessions do no I/O and read no clock; tokio and tonic stay in `transport`",
    },
    // The client waits for an answer as long as it says, and needs a clock for that.
    Forbidden {
        within: "api/src/",
        except: &["api/src/client.rs"],
        pattern: r"\btokio::",
        why: "weft-api has no run time",
    },
    Forbidden {
        within: "dataplane/routing/src/",
        except: &[],
        pattern: r"\bstd::(fs|env|thread|process|net::(Tcp|Udp))\b|\btokio::|(Instant|SystemTime)::now",
        why: "routing decides, and does nothing else: whoever asks brings time and chance",
    },
    Forbidden {
        within: "dataplane/routing/src/",
        except: &["dataplane/routing/src/decode"],
        pattern: r"\benvoy_types\b",
        why: "messages get their meaning in `decode`; what decides names none of them",
    },
    Forbidden {
        within: "",
        except: &["control-plane/store/", "e2e/tests/tidy/"],
        pattern: r"\b(redb|etcd_client)::",
        why: "the engines are named in the store only",
    },
    Forbidden {
        within: "dataplane/src/",
        except: &[
            "dataplane/src/decode",
            // Each filter reads its own messages, in its own folder.
            "/decode.rs",
            // Messages that are sent, or come by files.
            "dataplane/src/access_log_service",
            "dataplane/src/filter/ext_authz/check_request.rs",
            "dataplane/src/filter/ext_authz/grpc_service.rs",
            "dataplane/src/bootstrap",
            "dataplane/src/control/files.rs",
            "dataplane/src/control/local.rs",
            "dataplane/src/hds",
            "dataplane/src/metrics_push.rs",
            "dataplane/src/snapshot.rs",
            "dataplane/src/stats/prometheus.rs",
        ],
        pattern: r"\benvoy_types\b",
        why: "messages get their meaning in `decode`; what runs names none of them",
    },
];

fn is_excepted(path: &str, by: &str) -> bool {
    if by.starts_with('/') { path.ends_with(by) } else { path.starts_with(by) }
}

/// What a request passes through, without its tests: nobody waits for a lock there.
const REQUEST_PATH: [&str; 9] = [
    "routing/src",
    "src/balance",
    "src/breaker",
    "src/engine",
    "src/filter",
    "src/format",
    "src/outlier",
    "src/route",
    "src/tap",
];

#[test]
fn no_request_waits_for_a_lock() {
    let pattern = Regex::new(r"\b(Mutex|RwLock)\b").unwrap();
    let mut found = Vec::new();
    for room in REQUEST_PATH {
        let within = format!("dataplane/{room}");
        let files: Vec<_> =
            source::rust().into_iter().filter(|file| file.path.starts_with(&within)).collect();
        assert!(!files.is_empty(), "no file lies within {within}: change REQUEST_PATH");
        for file in files {
            let lines = code(file.production()).filter(|(_, text)| pattern.is_match(text));
            found.extend(lines.map(|(line, text)| format!("{}:{line}: {text}", file.path)));
        }
    }
    nothing_in(&found, "no lock on the request path:");
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(source::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_depend_only_downwards() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(
        packages.len(),
        LAYERS.len(),
        "a crate came or went: change LAYERS and ARCHITECTURE.md with it"
    );
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            found.push(format!("{name}: not in LAYERS"));
            continue;
        };
        let manifest = source::root().join(layer.folder).join("Cargo.toml");
        if package["manifest_path"].as_str() != manifest.to_str() {
            found.push(format!("{name}: not in the folder {}", layer.folder));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            let ours = LAYERS.iter().any(|layer| layer.name == used);
            if ours && used != name && !layer.ours.contains(&used) {
                found.push(format!("{name} -> {used}"));
            }
            if !for_tests && layer.never.contains(&used) {
                found.push(format!("{name} -> {used}"));
            }
        }
    }
    nothing_in(&found, "the layers of ARCHITECTURE.md forbid:");
}

#[test]
fn each_layer_keeps_to_its_invariant() {
    let mut found = Vec::new();
    for rule in &FORBIDDEN {
        let pattern = Regex::new(rule.pattern).unwrap();
        let mut seen = 0;
        for file in source::rust() {
            if !file.path.starts_with(rule.within)
                || rule.except.iter().any(|part| is_excepted(&file.path, part))
            {
                continue;
            }
            seen += 1;
            found.extend(
                code(file.production())
                    .filter(|(_, text)| pattern.is_match(text))
                    .map(|(line, text)| format!("{}:{line}: {text} ({})", file.path, rule.why)),
            );
        }
        assert!(seen > 0, "no file lies within {}: change FORBIDDEN", rule.within);
    }
    nothing_in(&found, "these break an invariant of their layer:");
}

#[test]
fn every_crate_takes_the_workspace_lints_and_versions() {
    let version = Regex::new(r#"(?m)^[a-z0-9_-]+ = (".*"|\{[^}]*\bversion\b.*)$"#).unwrap();
    let mut found = Vec::new();
    for layer in &LAYERS {
        let path = format!("{}/Cargo.toml", layer.folder);
        let text = std::fs::read_to_string(source::root().join(&path)).unwrap();
        if !text.contains("\n[lints]\nworkspace = true\n") {
            found.push(format!("{path}: no [lints] workspace = true"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !text.contains(&format!("\n{key}.workspace = true\n")) {
                found.push(format!("{path}: {key} is not the workspace's"));
            }
        }
        let dependencies = text.split("dependencies]\n").skip(1).flat_map(|part| part.split("\n[").next());
        for table in dependencies {
            found.extend(version.find_iter(table).map(|line| format!("{path}: {}", line.as_str())));
        }
    }
    nothing_in(&found, "lints and versions stand once, in the workspace:");
}
