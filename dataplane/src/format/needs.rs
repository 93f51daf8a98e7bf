//! What has to be kept of a request until its end, when its log is written.

use super::command::{CommandOperator, FormatOp, GrpcForm, HeaderSource};
use super::json::Node;
use super::part::FormatPart;

/// What beyond method, host, path and id. What nobody needs is not copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogNeeds {
    pub(crate) request_headers: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_trailers: bool,
}

impl LogNeeds {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            request_headers: self.request_headers || other.request_headers,
            response_headers: self.response_headers || other.response_headers,
            response_trailers: self.response_trailers || other.response_trailers,
        }
    }

    pub(super) fn of_parts(parts: &[FormatPart]) -> Self {
        let needs = |part: &FormatPart| match part {
            FormatPart::Literal(_) => Self::default(),
            FormatPart::CommandOperator(command) => Self::of_command(command),
        };
        parts.iter().map(needs).fold(Self::default(), Self::and)
    }

    pub(super) fn of_node(node: &Node) -> Self {
        match node {
            Node::Object(members) => {
                members.iter().map(|(_, node)| Self::of_node(node)).fold(Self::default(), Self::and)
            }
            Node::List(nodes) => nodes.iter().map(Self::of_node).fold(Self::default(), Self::and),
            Node::CommandOperator(command) => Self::of_command(command),
            Node::Text(parts) => Self::of_parts(parts),
            Node::Number(_) | Node::Bool(_) | Node::Null => Self::default(),
        }
    }

    fn of_command(command: &CommandOperator) -> Self {
        match &command.op {
            FormatOp::Header { side, name, other } => match side {
                HeaderSource::Request | HeaderSource::RequestWithoutQuery => {
                    let plain = |name: &str| !name.starts_with(':') && name != "host";
                    let headers = plain(name) || other.as_deref().is_some_and(plain);
                    Self { request_headers: headers, ..Self::default() }
                }
                HeaderSource::Response => Self { response_headers: true, ..Self::default() },
                HeaderSource::Trailer => Self { response_trailers: true, ..Self::default() },
            },
            FormatOp::GrpcStatus(GrpcForm::Camel | GrpcForm::Snake | GrpcForm::Number) => {
                Self { request_headers: true, response_headers: true, response_trailers: true }
            }
            FormatOp::Time(..)
            | FormatOp::QueryParameter(_)
            | FormatOp::Fact(_)
            | FormatOp::Number(_)
            | FormatOp::Flags
            | FormatOp::FlagsLong
            | FormatOp::UpstreamHost(_)
            | FormatOp::UpstreamLocal(_)
            | FormatOp::DownstreamLocal(_)
            | FormatOp::DownstreamRemote(_)
            | FormatOp::DownstreamDirect(_)
            | FormatOp::Peer(_)
            | FormatOp::UpstreamPeer(_)
            | FormatOp::Certificate(_)
            | FormatOp::Fixed(_)
            | FormatOp::Absent => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::format::Format;

    #[test]
    fn headers_are_kept_only_where_a_format_names_one() {
        for (format, headers) in [
            ("%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %RESPONSE_CODE%", false),
            ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", true),
            ("%REQ(:PATH?X-OTHER)%", true),
            ("%REQ(USER-AGENT)%", true),
        ] {
            assert_eq!(Format::parse(format).unwrap().needs().request_headers, headers, "{format}");
        }
        let response = Format::parse("%RESP(X-A)%").unwrap().needs();
        assert!(response.response_headers && !response.request_headers && !response.response_trailers);
    }
}
