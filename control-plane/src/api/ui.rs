//! The page: one bundle in the program (`control-plane/ui`), served at `/ui/`.
//!
//! It is the same for everybody and says nothing of a mesh, so that it needs no token; what it shows it asks of the API. It may
//! load from its own origin and nowhere else, runs no script that stands in a document, and is in nobody's frame.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What a browser is told beside each file: what it may load, and who may show it.
pub const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The name of a file in there has the hash of what is in it.
const ASSETS: &str = "assets/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASKED_EACH_TIME: &str = "no-cache";
const INDEX: &str = "index.html";

#[derive(RustEmbed)]
#[folder = "ui/dist"]
struct Bundle;

/// One file of the bundle.
struct File {
    name: String,
    plain: Bytes,
    etag: HeaderValue,
    /// Compressed when it is first asked for.
    gzip: OnceLock<Bytes>,
}

/// All files of the bundle.
type Files = Arc<[File]>;

/// What is served without a token.
pub fn router() -> Router {
    let files: Files = Bundle::iter().filter_map(|name| Some(File::of(&name, Bundle::get(&name)?))).collect();
    Router::new()
        .route("/", get(async || Redirect::to("/ui/")))
        .route("/ui", get(async || Redirect::permanent("/ui/")))
        .route("/ui/", get(index))
        .route("/ui/{*path}", get(file))
        .with_state(files)
}

async fn index(State(files): State<Files>, headers: HeaderMap) -> Response {
    find(&files, INDEX).map_or_else(missing, |file| file.answer(&headers))
}

/// A file of the bundle; every other path is one of the page's own views.
async fn file(State(files): State<Files>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let index = || find(&files, INDEX).filter(|_| !path.starts_with(ASSETS));
    find(&files, &path).or_else(index).map_or_else(missing, |file| file.answer(&headers))
}

fn find<'a>(files: &'a Files, name: &str) -> Option<&'a File> {
    files.iter().find(|file| file.name == name)
}

fn missing() -> Response {
    let text = "there is no such file of the page; load it again, it may be another version\n";
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}

impl File {
    fn of(name: &str, file: EmbeddedFile) -> Self {
        let hash = data_encoding::HEXLOWER.encode(&file.metadata.sha256_hash()[..8]);
        let etag =
            HeaderValue::try_from(format!("\"{hash}\"")).expect("hexadecimal digits stand in any header");
        Self {
            name: name.to_owned(),
            plain: Bytes::from(file.data.into_owned()),
            etag,
            gzip: OnceLock::new(),
        }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let mut response = if asked.get(header::IF_NONE_MATCH) == Some(&self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(asked) {
            ([(header::CONTENT_ENCODING, "gzip")], self.compressed()).into_response()
        } else {
            self.plain.clone().into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let cache = if self.name.starts_with(ASSETS) { FOR_EVER } else { ASKED_EACH_TIME };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(&self.name)));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::ETAG, self.etag.clone());
        response
    }

    fn compressed(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let written = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
            Bytes::from(written.expect("memory takes every byte"))
        };
        self.gzip.get_or_init(compress).clone()
    }
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted =
        asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| one.trim() == "gzip")
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use tower::ServiceExt as _;

    use super::*;

    /// What people download, all of it: 300 kB.
    const MOST: usize = 300_000;

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let request =
            headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        let response = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status, head.headers, to_bytes(body, 10 << 20).await.unwrap())
    }

    #[tokio::test]
    async fn every_view_is_the_one_document_under_a_strict_policy() {
        for path in ["/ui/", "/ui/services/shop/web", "/ui/login", "/ui/index.html"] {
            let (status, headers, body) = ask(path, &[]).await;
            assert_eq!(
                (status, headers[header::CACHE_CONTROL].as_bytes()),
                (StatusCode::OK, &b"no-cache"[..]),
                "{path}"
            );
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(
                text.contains("<div id=\"app\">") && !text.contains("<style") && !text.contains("<script>"),
                "{text}"
            );
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }

    #[tokio::test]
    async fn document_that_is_known_is_not_sent_again() {
        let (_, headers, _) = ask("/ui/", &[]).await;
        let etag = headers[header::ETAG].to_str().unwrap();
        let (status, headers, body) = ask("/ui/", &[("if-none-match", etag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
    }

    #[tokio::test]
    async fn files_are_kept_for_ever_and_small_together() {
        let mut total = 0;
        for name in Bundle::iter() {
            let (status, headers, body) =
                ask(&format!("/ui/{name}"), &[("accept-encoding", "br, gzip")]).await;
            assert_eq!(
                (status, headers[header::CONTENT_ENCODING].as_bytes()),
                (StatusCode::OK, &b"gzip"[..]),
                "{name}"
            );
            assert_ne!(headers[header::CONTENT_TYPE], "application/octet-stream", "{name}");
            let cache = if name.starts_with(ASSETS) { FOR_EVER } else { ASKED_EACH_TIME };
            assert_eq!(headers[header::CACHE_CONTROL], cache, "{name}");
            total += body.len();
        }
        assert!((1000..MOST).contains(&total), "the page has {total} bytes, compressed");
    }

    #[tokio::test]
    async fn file_of_another_version_is_missing() {
        let (status, headers, _) = ask("/ui/assets/index-00000000.js", &[]).await;
        assert_eq!(
            (status, headers[header::CACHE_CONTROL].as_bytes()),
            (StatusCode::NOT_FOUND, &b"no-store"[..])
        );
    }

    #[tokio::test]
    async fn browser_that_knows_the_address_alone_finds_the_page() {
        for (path, status) in [("/", StatusCode::SEE_OTHER), ("/ui", StatusCode::PERMANENT_REDIRECT)] {
            let (found, headers, _) = ask(path, &[]).await;
            assert_eq!((found, headers[header::LOCATION].as_bytes()), (status, &b"/ui/"[..]));
        }
    }
}
