//! An answer of an admin endpoint.

use http::StatusCode;

/// An answer: status, content type and body.
#[derive(Debug)]
pub(crate) struct AdminResponse {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl AdminResponse {
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        let body = format!("{value:#}\n");
        Self { status: StatusCode::OK, content_type: "application/json", body }
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// What is answered when the control thread has ended.
    pub(super) fn gone() -> Self {
        Self::text("the proxy is ending\n").with_status(StatusCode::SERVICE_UNAVAILABLE)
    }
}
